import { expect, test } from 'vitest';
import { changed, changedFolder, type FileTensor, type FolderChange } from '../../test/changed-folder.js';
import type { DecoderArchitecture } from '../architecture.js';
import { expertsOf } from '../layer-kinds/sparse.js';
import { readModelFolder } from '../model-folder.js';
import { checkMxfp4Scales } from './mxfp4.js';

const BASE = new URL('../../../../test/fixtures/families/gpt_oss-mxfp4/base', import.meta.url).pathname;
const GATE_UP = 'model.layers.1.mlp.experts.gate_up_proj';

const folderWith = (change: FolderChange) => changedFolder(BASE, change);

test('experts in MXFP4 are read with their scales, and counted by their numbers', async () => {
  const folder = await readModelFolder(BASE);
  expect(folder.dtype).toBe('mxfp4');
  expect(expertsOf(folder.architecture as DecoderArchitecture, 0).files).toBe('mxfp4');
  expect(folder.quantized.get(`${GATE_UP}_blocks`)).toMatchObject({
    ...{ type: 'mxfp4', shape: [5, 128, 32], parameter: GATE_UP, parts: [`${GATE_UP}_scales`] },
  });
  expect(folder.quantized.size).toBe(4);
  expect(folder.parameters[0]).toEqual({
    ...{ name: 'model.layers.0.mlp.experts.gate_up_proj', in_features: 32, out_features: 128, experts: 5 },
  });
  const ofExperts = 5 * (128 * 32 + 32 * 64 + 128 + 32);
  const ofAttention = 2 * 24 * 32 + 2 * 12 * 32 + 24 + 2 * 12 + 32 + 4;
  expect(folder.parameterCount).toBe(2 * 64 * 32 + 32 + 2 * (ofExperts + ofAttention + 5 * 32 + 5 + 2 * 32));
});

test('what is in MXFP4 is seen by the tensors, whatever config.json says', async () => {
  const { quantized } = await readModelFolder(await folderWith({ config: { quantization_config: undefined } }));
  expect(quantized.size).toBe(4);
});

test.each<[string, (all: FileTensor[]) => FileTensor[], string, string]>([
  [
    'codes for other sizes',
    changed(`${GATE_UP}_blocks`, () => ({ shape: [5, 64, 2, 16] })),
    'model_file_corrupt',
    `tensor ${GATE_UP}_blocks has the shape [5, 64, 2, 16]; config.json requires [5, 128, 1, 16]`,
  ],
  [
    'scales of fewer blocks',
    changed(`${GATE_UP}_scales`, () => ({ shape: [5, 64, 1], data: new Uint8Array(320) })),
    'model_file_corrupt',
    `tensor ${GATE_UP}_scales has the shape [5, 64, 1]; config.json requires [5, 128, 1]`,
  ],
  [
    'no scales',
    (all) => all.filter(({ name }) => name !== `${GATE_UP}_scales`),
    'model_file_missing',
    `no weight file contains the tensor ${GATE_UP}_scales`,
  ],
  [
    'codes of another type',
    changed(`${GATE_UP}_blocks`, () => ({ dtype: 'I8' })),
    'model_not_supported',
    `tensor ${GATE_UP}_blocks is I8; a part of weights in MXFP4 is U8`,
  ],
  [
    'the same experts as floats, too',
    (all) => [...all, { name: GATE_UP, dtype: 'BF16', shape: [1], data: new Uint8Array(2) }],
    'model_file_corrupt',
    `tensor ${GATE_UP} is not quantized, but other experts are in MXFP4`,
  ],
])('%s are refused by the name of the tensor', async (_, tensors, code, message) => {
  const reading = readModelFolder(await folderWith({ tensors }));
  await expect(reading).rejects.toMatchObject({ code, message: expect.stringContaining(message) });
});

test.each<[object, string]>([
  [{ hidden_size: 48 }, 'hidden_size 48 is not a multiple of 32'],
  [{ intermediate_size: 40 }, 'intermediate_size 40 is not a multiple of 32'],
  [{ num_experts_per_tok: 6 }, 'num_experts_per_tok 6 is more than the 5 experts'],
])('a config that cannot be of such weights is refused: %j', async (config, message) => {
  await expect(readModelFolder(await folderWith({ config }))).rejects.toThrow(message);
});

test('a scale whose numbers are not finite in bfloat16 is refused', async () => {
  const folder = await readModelFolder(BASE);
  checkMxfp4Scales(folder, `${GATE_UP}_scales`, Float32Array.of(0, 127, 252));
  for (const scale of [253, 255]) {
    expect(() => checkMxfp4Scales(folder, `${GATE_UP}_scales`, Float32Array.of(1, scale))).toThrow(
      `tensor ${GATE_UP}_scales has the scale ${scale} at 1: above 252`,
    );
  }
});
