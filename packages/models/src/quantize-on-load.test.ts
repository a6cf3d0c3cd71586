import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  Fp8Weight,
  type ModelFolder,
  readModelFolder,
  readWeights,
  withBaseQuantization,
} from '@lorasmith/model-folder';
import {
  chooseKernels,
  dispose,
  type FloatDType,
  liveTensorCount,
  scope,
  type Tensor,
  tensorOf,
  tensorOfMapping,
  toFloat32Array,
} from '@lorasmith/tensor';
import {
  float32ToBfloat16,
  giveAway,
  NF4_VALUES,
  openSafetensors,
  quantizeScales,
  type Region,
  SCALE_VALUES,
  writeSafetensors,
} from '@lorasmith/weight-files';
import { describe, expect, onTestFinished, test } from 'vitest';
import { normalNumbers } from '../../../test/numeric/normal-numbers.js';
import { loadDecoder } from './decoder/load-decoder.js';
import { QuantizedLinear } from './frozen-linear.js';

// Compared with bitsandbytes on a processor: test/fixtures/quantized/make.py.

const fixtures = fileURLToPath(new URL('../../../test/fixtures/quantized/', import.meta.url));
const ENCODING = 'encoding.safetensors';
const CASES = ['rare-bfloat16', 'rare-float16', 'rare-float32', 'zeros', 'random-bfloat16', 'random-float16'];

/** A folder like readModelFolder's, of a file with any tensors. */
async function folderOf(path: string, file: string): Promise<ModelFolder> {
  const opened = await openSafetensors(join(path, file));
  const tensors = new Map([...opened.tensors].map(([name, entry]) => [name, { file, entry }]));
  await opened.close();
  return {
    name: 'a-model',
    path,
    files: [{ name: file, path: join(path, file) }],
    tensors,
    quantized: new Map(),
  } as unknown as ModelFolder;
}

function bytesOf(region: Region, bytes = region.bytes): Buffer {
  const tensor: Tensor = tensorOfMapping(giveAway(region), [bytes], 'uint8');
  const padded = scope(() => toFloat32Array(tensor));
  dispose(tensor);
  return Buffer.from(Uint8Array.from(padded));
}

interface Quantized {
  codes: Region;
  scales: Region;
}

/** Codes and scales of tensors that are quantized as they are read. */
async function quantized(
  folder: ModelFolder,
  names: readonly string[],
  options: { hash?: boolean; windowBytes?: number } = {},
): Promise<Quantized> {
  let read: Quantized | null = null;
  const onFilled = (codes: Region, scales: Region | null) => {
    read = { codes, scales: scales! };
  };
  await readWeights(folder, [{ names, dtype: 'NF4', onFilled }], { hash: false, onRead() {}, ...options });
  return read!;
}

describe.each(CASES)('the weight %s', (name) => {
  const part = async (what: string) => {
    const file = await openSafetensors(join(fixtures, ENCODING));
    const bytes = Buffer.from(await file.read(`${name}.${what}`));
    await file.close();
    return bytes;
  };
  const read = async () => await quantized(await folderOf(fixtures, ENCODING), [`${name}.numbers`]);
  const blocks = async () => (await part('scales')).length / 4;

  test('has the codes and scales of bitsandbytes', async () => {
    const { codes, scales } = await read();
    expect(bytesOf(codes)).toEqual(await part('codes'));
    expect(bytesOf(scales)).toEqual(await part('scales'));
  });

  test('has its quantized scales with its offset, and that offset up to the order of its sum', async () => {
    const offset = (await part('offset')).readFloatLE();
    const count = await blocks();
    const exact = await quantizeScales((await read()).scales, [count], offset);
    expect(bytesOf(exact.codes)).toEqual(await part('scale_codes'));
    expect(bytesOf(exact.nested)).toEqual(await part('nested_scales'));
    const { offsets } = await quantizeScales((await read()).scales, [count]);
    const bits = (number: number) => new Int32Array(Float32Array.of(number).buffer)[0]!;
    expect(Math.abs(bits(offsets[0]!) - bits(offset))).toBeLessThanOrEqual(2);
  });
});

test('the tables are those of bitsandbytes', async () => {
  const file = await openSafetensors(join(fixtures, ENCODING));
  const stored = Buffer.from(await file.read('scale_values'));
  await file.close();
  expect(Buffer.from(SCALE_VALUES.slice().buffer)).toEqual(stored);
  const folder = await readModelFolder(join(fixtures, 'nf4-nested/base'));
  const [first] = folder.quantized.values();
  expect(first).toMatchObject({ reader: 'stored-4-bit', values: NF4_VALUES });
});

test('in windows and on several threads, hashed or not, weights have the same bytes as in one piece', async () => {
  const path = await mkdtemp(join(tmpdir(), 'quantize-'));
  onTestFinished(() => rm(path, { recursive: true }));
  const data = float32ToBfloat16(normalNumbers(64 * 20_000, 5));
  const tensor = (name: string, shape: [number, number], from: number) => {
    return { name, dtype: 'BF16' as const, shape, data: data.subarray(from, from + 2 * shape[0] * shape[1]) };
  };
  await writeSafetensors(join(path, 'a.safetensors'), [
    tensor('one', [5_000, 64], 0),
    tensor('other', [1, 3], 2),
    tensor('two', [14_999, 64], 2 * 5_000 * 64),
  ]);
  const folder = await folderOf(path, 'a.safetensors');
  const names = ['one', 'two'];
  const whole = await quantized(folder, names, { windowBytes: 2 ** 30 });
  const expected = [bytesOf(whole.codes), bytesOf(whole.scales)];
  expect(new Set(expected[0]).size).toBeGreaterThan(200);
  for (const hash of [false, true]) {
    const { codes, scales } = await quantized(folder, names, { hash, windowBytes: 700_001 });
    expect(Buffer.compare(bytesOf(codes), expected[0]!)).toBe(0);
    expect(Buffer.compare(bytesOf(scales), expected[1]!)).toBe(0);
  }
});

test('weights in 8 bits are decoded with the scale of their block, in windows and short blocks', async () => {
  const path = await mkdtemp(join(tmpdir(), 'quantize-'));
  onTestFinished(() => rm(path, { recursive: true }));
  const [rows, columns, block] = [100, 70, [32, 48]] as const;
  // All codes but those of NaN.
  const codes = Uint8Array.from({ length: rows * columns }, (_, i) => (i * 37 + (i >> 8)) % 256);
  for (const [i, code] of codes.entries()) if ((code & 127) === 127) codes[i] = 1;
  const scales = normalNumbers(4 * 2, 5).map(Math.abs);
  const data = { name: 'one', dtype: 'F8_E4M3' as const, shape: [rows, columns], data: codes };
  await writeSafetensors(join(path, 'a.safetensors'), [data]);
  const found = await folderOf(path, 'a.safetensors');
  const weight = new Fp8Weight([rows, columns], { scales, columns, block }, []);
  const folder = { ...found, quantized: new Map([['one', weight]]) };
  const expected = Float32Array.from(codes, (code, i) => {
    const [exponent, mantissa] = [(code >> 3) & 15, code & 7];
    const magnitude = exponent === 0 ? mantissa * 2 ** -9 : (8 + mantissa) * 2 ** (exponent - 10);
    const scale = scales[Math.floor(i / columns / block[0]) * 2 + Math.floor((i % columns) / block[1])]!;
    return Math.fround((code < 128 ? magnitude : -magnitude) * scale);
  });
  for (const hash of [false, true]) {
    for (const dtype of ['F32', 'BF16'] as const) {
      let bytes: Buffer | null = null;
      const onFilled = (region: Region) => {
        bytes = bytesOf(region);
      };
      await readWeights(folder, [{ names: ['one'], dtype, onFilled }], { hash, onRead() {}, windowBytes: 999 });
      const wanted = dtype === 'F32' ? new Uint8Array(expected.buffer) : float32ToBfloat16(expected);
      expect(Buffer.compare(bytes!, wanted)).toBe(0);
    }
  }
});

describe('a model that is quantized when it is loaded', () => {
  const original = join(fixtures, 'nf4-original/original');
  const read = async (path = original) => withBaseQuantization(await readModelFolder(path), 'nf4');

  test.each(['fused', 'raw'] as const)(
    'has the weights that bitsandbytes has made of it, with %s kernels',
    async (source) => {
      const kernels = chooseKernels(source);
      const expected = JSON.parse(await readFile(join(fixtures, 'nf4-original/decoded.json'), 'utf8'));
      const folder = await read();
      const before = liveTensorCount();
      for (const dtype of ['float32', 'bfloat16'] as const satisfies readonly FloatDType[]) {
        const model = await loadDecoder(folder, dtype, kernels);
        const kinds = model.groups.map(({ linear }) => linear instanceof QuantizedLinear);
        expect(kinds).toEqual([true, true, true, true, false]);
        for (const { modules, linear } of model.groups.slice(0, -1)) {
          let row = 0;
          for (const { name, outFeatures } of modules) {
            const first = row;
            const numbers = scope(() => toFloat32Array(linear.weightRows(first, outFeatures)));
            const stored = dtype === 'float32' ? numbers : float32ToBfloat16(numbers);
            const digest = createHash('sha256').update(Buffer.from(stored.buffer)).digest('hex');
            expect(digest, name).toBe(expected[folder.linears.get(name)!.weight][dtype]);
            row += outFeatures;
          }
        }
        model.dispose();
      }
      expect(liveTensorCount()).toBe(before);
    },
  );

  test('computes the same as the folder that bitsandbytes has made of it', async () => {
    const kernels = chooseKernels('fused');
    const logitsOf = async (folder: ModelFolder) => {
      const model = await loadDecoder(folder, 'float32', kernels);
      const { linear } = model.groups[0]!;
      const x = tensorOf(normalNumbers(5 * linear.inFeatures, 3), [5, linear.inFeatures]);
      const numbers = scope(() => toFloat32Array(linear.forward(x)));
      model.dispose();
      dispose(x);
      return numbers;
    };
    const made = await logitsOf(await read());
    expect(made).toEqual(await logitsOf(await readModelFolder(join(fixtures, 'nf4-original/base'))));
    expect(made).not.toEqual(await logitsOf(await readModelFolder(original)));
  });

  test('is refused by the name of a tensor with a number that is not finite, and nothing stays', async () => {
    const path = await mkdtemp(join(tmpdir(), 'quantize-'));
    onTestFinished(() => rm(path, { recursive: true }));
    const name = 'model.layers.0.mlp.up_proj.weight';
    await writeFile(join(path, 'config.json'), await readFile(join(original, 'config.json')));
    const bytes = await readFile(join(original, 'model.safetensors'));
    const file = await openSafetensors(join(original, 'model.safetensors'));
    bytes.writeUInt16LE(0x7f80, file.tensors.get(name)!.byteOffset + 2 * 777);
    await file.close();
    await writeFile(join(path, 'model.safetensors'), bytes);
    const before = liveTensorCount();
    await expect(loadDecoder(await read(path), 'bfloat16', chooseKernels('raw'))).rejects.toMatchObject({
      code: 'model_file_corrupt',
      message: expect.stringContaining(`model.safetensors: tensor ${name} has a number that is not finite`),
    });
    expect(liveTensorCount()).toBe(before);
  });

  test('that is quantized in its files, or of GPT-2, is refused with the setting', async () => {
    const refused = { code: 'invalid_job', param: 'training.base_quantization' };
    const stored = await readModelFolder(join(fixtures, 'fp4-plain/base'));
    expect(() => withBaseQuantization(stored, 'nf4')).toThrow('has quantized weights (fp4) already');
    expect(() => withBaseQuantization(stored, 'nf4')).toThrow(expect.objectContaining(refused));
    expect(withBaseQuantization(stored, 'none')).toBe(stored);
    const transposed = await readModelFolder(join(fixtures, '../families/gpt2/base'));
    expect(() => withBaseQuantization(transposed, 'nf4')).toThrow(expect.objectContaining(refused));
  });
});
