import { describe, expect, test } from 'vitest';
import { changed, changedFolder, type FileTensor, type FolderChange } from '../../test/changed-folder.js';
import { readModelFolder } from '../model-folder.js';
import type { StoredWeight } from './four-bit.js';
import type { Fp8Weight } from './fp8.js';

const fixture = (name: string) => new URL(`../../../../test/fixtures/quantized/${name}/base`, import.meta.url).pathname;
const UP = 'model.layers.0.mlp.up_proj.weight';
const STATE = `${UP}.quant_state.bitsandbytes__nf4`;

const folderWith = (change: FolderChange, base = 'nf4-mixed') => changedFolder(fixture(base), change);
const bytes = (text: string) => {
  const data = new TextEncoder().encode(text);
  return { data, shape: [data.length] };
};
/** The state with fields changed. */
const state = (change: object) =>
  changed(STATE, ({ data }) => bytes(JSON.stringify({ ...JSON.parse(new TextDecoder().decode(data)), ...change })));

test('weights in 4 bits are read with their tables, and counted by their numbers', async () => {
  const folder = await readModelFolder(fixture('nf4-nested'));
  expect(folder.dtype).toBe('nf4');
  expect(folder.parameterCount).toBe(2 * 64 * 64 + 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 384) + 5 * 64);
  expect(folder.quantized.size).toBe(14);
  const up = folder.quantized.get(UP) as StoredWeight;
  expect(up).toMatchObject({ type: 'nf4', shape: [384, 64], scales: `${UP}.absmax` });
  expect([...up.values.slice(7, 9)]).toEqual([0, Math.fround(0.07958029955625534)]);
  expect(up.nested!.values).toHaveLength(256);
  expect(up.nested!.offset).toBeGreaterThan(0);

  const plain = await readModelFolder(fixture('fp4-plain'));
  expect(plain.dtype).toBe('fp4');
  expect((plain.quantized.get(UP) as StoredWeight).nested).toBeNull();
});

test('each tensor is in 4 bits or not, whatever config.json says', async () => {
  const folder = await readModelFolder(fixture('nf4-mixed'));
  expect(folder.quantized.has('model.layers.1.mlp.up_proj.weight')).toBe(true);
  expect(folder.quantized.has('model.layers.1.mlp.down_proj.weight')).toBe(false);
  const unsaid = await readModelFolder(await folderWith({ config: { quantization_config: undefined } }));
  expect(unsaid.quantized.size).toBe(folder.quantized.size);
});

test.each([
  ...['gptq', 'awq', 'compressed-tensors', 'torchao', 'hqq', 'mxfp4', 'modelopt'].map((method) => [
    { quant_method: method },
    `quantization_config.quant_method "${method}" is not supported: use the original model in bfloat16, or a copy of it in 4 bits of bitsandbytes (NF4 or FP4)`,
  ]),
  [{}, 'quantization_config.quant_method null is not supported: use the original model'],
  [
    { quant_method: 'bitsandbytes', load_in_8bit: true },
    'quantization_config.load_in_8bit true is not supported: use the original model',
  ],
  [
    { quant_method: 'bitsandbytes', load_in_4bit: true, bnb_4bit_quant_storage: 'bfloat16' },
    'quantization_config.bnb_4bit_quant_storage "bfloat16" is not supported; uint8 is',
  ],
] as [object, string][])('another quantization is refused by name: %j', async (quantization_config, message) => {
  const reading = readModelFolder(await folderWith({ config: { quantization_config } }));
  await expect(reading).rejects.toMatchObject({
    code: 'model_not_supported',
    message: expect.stringContaining(message),
  });
});

describe('weights in 8 bits', () => {
  const DOWN = 'model.layers.0.mlp.down_proj.weight';
  const SCALES = `${DOWN}_scale_inv`;
  const settings = { quant_method: 'fp8', activation_scheme: 'dynamic', weight_block_size: [32, 32] };

  test('are read with a scale for each block, or one for all, and counted by their numbers', async () => {
    const folder = await readModelFolder(fixture('fp8-blocks'));
    expect(folder.dtype).toBe('fp8');
    expect(folder.quantized.size).toBe(7);
    const down = folder.quantized.get(DOWN) as Fp8Weight;
    expect(down).toMatchObject({ shape: [64, 128], decodedBy: { columns: 128, block: [32, 32] } });
    expect(down.decodedBy.scales).toHaveLength(2 * 4);
    expect(folder.parameterCount).toBe(64 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 128 + 3 * 64);
    const one = (await readModelFolder(fixture('fp8-one-scale'))).quantized.get(DOWN) as Fp8Weight;
    expect(one.decodedBy).toMatchObject({ block: [64, 64], scales: expect.objectContaining({ length: 1 }) });
  });

  test('have scales in float32, bfloat16 or E8M0', async () => {
    const [one] = ((await readModelFolder(fixture('fp8-one-scale'))).quantized.get(DOWN) as Fp8Weight).decodedBy.scales;
    const [bits] = new Uint32Array(Float32Array.of(one!).buffer);
    expect(one).toBeGreaterThan(0);
    expect(bits! % 2 ** 16).toBe(0);
    const ends = changed(SCALES, ({ data }) => ({ data: data.map((byte, i) => (i < 3 ? [0, 127, 254][i]! : byte)) }));
    const powers = await readModelFolder(await folderWith({ tensors: ends }, 'fp8-powers'));
    const { scales } = (powers.quantized.get(DOWN) as Fp8Weight).decodedBy;
    expect([...scales.subarray(0, 3)]).toEqual([2 ** -127, 1, 2 ** 127]);
    expect([...scales].every((scale) => Number.isInteger(Math.log2(scale)))).toBe(true);
  });

  test('are read of a model with an encoder of images, as Mistral publishes it', async () => {
    const name = 'language_model.model.layers.0.mlp.down_proj.weight';
    const packed = (all: FileTensor[]) =>
      all.flatMap((tensor): FileTensor[] => {
        if (!tensor.name.endsWith(name)) return [tensor];
        const count = tensor.shape.reduce((product, size) => product * size, 1);
        const scale = { dtype: 'BF16', shape: [], data: Uint8Array.of(0, 0x3c) } as const;
        return [
          { ...tensor, dtype: 'F8_E4M3', data: new Uint8Array(count).fill(0x38) },
          { ...scale, name: `${tensor.name}_scale_inv` },
          { ...scale, name: tensor.name.replace('weight', 'activation_scale') },
        ];
      });
    const quantization_config = { quant_method: 'fp8', activation_scheme: 'static', weight_block_size: null };
    const change = { config: { quantization_config }, tensors: packed };
    const folder = await readModelFolder(await folderWith(change, '../families/mistral3-ministral3'));
    const [[found, weight] = []] = [...folder.quantized];
    expect(folder.quantized.size).toBe(1);
    expect(found).toMatch(new RegExp(`${name}$`));
    expect((weight as Fp8Weight).decodedBy.scales).toEqual(Float32Array.of(2 ** -7));
  });

  test('have no part left when they are decoded, the scale of their input included', async () => {
    const folder = await readModelFolder(fixture('fp8-one-scale'));
    const parts = [...folder.quantized].flatMap(([name, { parts }]) => [name, ...parts]);
    expect(parts).toContain('model.layers.0.mlp.down_proj.activation_scale');
    expect([...folder.tensors.keys()].filter((name) => name.includes('scale') && !parts.includes(name))).toEqual([]);
  });

  test.each([
    [
      'other blocks',
      { ...settings, weight_block_size: [64, 64] },
      undefined,
      '_scale_inv is F32 [2, 4]; the quantized weight requires 2 numbers in F32',
    ],
    ['blocks of no rows', { ...settings, weight_block_size: [0, 32] }, undefined, 'must list 2 numbers above 0'],
    ['half a block', { ...settings, weight_block_size: [1.5, 32] }, undefined, 'must list integers'],
    [
      'another scheme',
      { ...settings, activation_scheme: 'own' },
      undefined,
      'activation_scheme "own" is not supported',
    ],
    [
      'scales in another dtype',
      settings,
      changed(SCALES, ({ data }) => ({ data: data.subarray(16), dtype: 'F16' })),
      `${SCALES} is F16; scales in F32, BF16 and F8_E8M0 are supported`,
    ],
    [
      'a power that is not a number',
      settings,
      changed(SCALES, () => ({ data: new Uint8Array(8).fill(255), dtype: 'F8_E8M0' })),
      `${SCALES} has a number that is not finite`,
    ],
    [
      'nothing of it in config.json',
      { quant_method: 'bitsandbytes' },
      undefined,
      'is F8_E4M3; F32, F16 and BF16 are supported',
    ],
    ['no scales', settings, changed(SCALES, () => null), `tensor ${DOWN} is F8_E4M3; F32, F16 and BF16 are supported`],
    [
      'a scale that is negative',
      settings,
      changed(SCALES, ({ data }) => ({ data: data.map((byte, i) => (i === 7 ? byte | 128 : byte)) })),
      `${SCALES} has a scale that is negative`,
    ],
    [
      'a scale that is not finite',
      settings,
      changed(SCALES, () => ({ data: new Uint8Array(32).fill(255) })),
      `${SCALES} has a number that is not finite`,
    ],
    [
      'another shape',
      settings,
      changed(DOWN, ({ data }) => ({ data: data.subarray(64), shape: [64, 127] })),
      `tensor ${DOWN} has the shape [64, 127]; config.json requires [64, 128]`,
    ],
  ] as [string, object, ((all: FileTensor[]) => FileTensor[]) | undefined, string][])(
    'with %s are refused by name',
    async (_, quantization_config, tensors, message) => {
      const change = { config: { quantization_config }, ...(tensors && { tensors }) };
      await expect(readModelFolder(await folderWith(change, 'fp8-blocks'))).rejects.toThrow(message);
    },
  );
});

const corrupt = 'model_file_corrupt';
const unsupported = 'model_not_supported';
test.each([
  ['a missing part', changed(`${UP}.absmax`, () => null), 'model_file_missing', `contains ${UP}.absmax`],
  ['missing scales of scales', changed(`${UP}.nested_absmax`, () => null), 'model_file_missing', '.nested_absmax'],
  ['a missing table', changed(`${UP}.quant_map`, () => null), 'model_file_missing', '.quant_map'],
  [
    'too few codes',
    changed(UP, ({ data }) => ({ data: data.subarray(1), shape: [data.length - 1, 1] })),
    corrupt,
    `tensor ${UP} is U8 [4095, 1]; the quantized weight requires 4096 numbers in U8`,
  ],
  [
    'too many scales',
    changed(`${UP}.absmax`, () => ({ data: new Uint8Array(129), shape: [129] })),
    corrupt,
    'requires 128 numbers in U8',
  ],
  [
    'scales of another dtype',
    changed(`${UP}.absmax`, () => ({ data: new Uint8Array(512), shape: [128], dtype: 'F32' })),
    corrupt,
    'is F32 [128]',
  ],
  [
    'a table of 8 numbers',
    changed(`${UP}.quant_map`, () => ({ data: new Uint8Array(32), shape: [8] })),
    corrupt,
    'requires 16 numbers in F32',
  ],
  [
    'a number in a table that is not finite',
    changed(`${UP}.quant_map`, () => ({ data: new Uint8Array(64).fill(255) })),
    corrupt,
    '.quant_map has a number that is not finite',
  ],
  ['a state that is no JSON', changed(STATE, () => bytes('{"quant_type": "nf4"')), corrupt, 'is not the JSON'],
  ['a state that is null', changed(STATE, () => bytes('null')), corrupt, 'is not the JSON'],
  ['a state of 4,097 bytes', changed(STATE, () => bytes(' '.repeat(4097))), corrupt, 'JSON of at most 4096 bytes'],
  ['a deep state', changed(STATE, () => bytes('['.repeat(4000))), corrupt, 'is not the JSON'],
  ['another shape', state({ shape: [64, 128] }), corrupt, 'is for the shape [64,128]; config.json requires [128, 64]'],
  ['a shape that is no list', state({ shape: 'x'.repeat(500) }), unsupported, 'is for the shape "xx'],
  ['a shape of experts', state({ shape: [2, 64, 64] }), unsupported, 'is for the shape [2,64,64]; only matrices'],
  ['a huge shape', state({ shape: [2 ** 40, 2 ** 40] }), unsupported, 'only matrices can be quantized'],
  ['another type', state({ quant_type: 'fp4' }), corrupt, 'has another quant_type than nf4'],
  ['blocks of 128', state({ blocksize: 128 }), unsupported, 'has the blocksize 128; 64 is supported'],
  ['blocks of 0', state({ blocksize: 0 }), unsupported, 'has the blocksize 0'],
  ['no offset', state({ nested_offset: null }), corrupt, 'has a nested_offset that is not a finite number'],
  ['a huge offset', state({ nested_offset: 1e300 }), corrupt, 'has a nested_offset that is not a finite number'],
  ['nested blocks of 64', state({ nested_blocksize: 64 }), unsupported, 'has another nested_blocksize than 256'],
  [
    'an embedding in 4 bits',
    (all: FileTensor[]) => [
      ...all,
      { name: 'model.embed_tokens.weight.quant_state.bitsandbytes__nf4', dtype: 'U8' as const, ...bytes('{}') },
    ],
    unsupported,
    'model.embed_tokens.weight is quantized. Linear layers can be, and experts that the files have each by itself, but not fused experts, embeddings',
  ],
  [
    'codes without a state',
    changed(STATE, () => null),
    corrupt,
    `tensor ${UP} has the shape [4096, 1]; config.json requires [128, 64]`,
  ],
] as [string, (all: FileTensor[]) => FileTensor[], string, string][])(
  '%s is refused by name',
  async (_, tensors, code, message) => {
    const reading = readModelFolder(await folderWith({ tensors }));
    await expect(reading).rejects.toMatchObject({ code, message: expect.stringContaining(message) });
  },
);
