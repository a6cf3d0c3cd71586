import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { MachineKernels } from '@lorasmith/contracts';
import { readModelFolder, withBaseQuantization } from '@lorasmith/model-folder';
import { expect, onTestFinished, test } from 'vitest';
import { eachByItself, SMALL_MIXTURE, writeRandomModel } from '../../../../test/random-model.js';
import { decodedMemory, weightMemory } from './weight-memory.js';

const fixtures = join(import.meta.dirname, '../../../../test/fixtures/quantized');
const read = (name: string) => readModelFolder(join(fixtures, name, 'base'));

test('what stays in 4 bits counts as in the files, and the rest in the type of computing', async () => {
  const model = await read('nf4-nested');
  const linear = 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 384);
  const rest = 2 * 64 * 64 + 5 * 64;
  // A weight has half a byte, a 64th for its scale, and that scale a 256th of four bytes.
  expect(weightMemory(model, 'bfloat16')).toBe(linear * (1 / 2 + 1 / 64 + 4 / (64 * 256)) + 2 * rest);
  expect(weightMemory(model, 'float32') - weightMemory(model, 'bfloat16')).toBe(2 * rest);
  expect((weightMemory(model, 'bfloat16') - 2 * rest) / linear).toBeLessThan(0.55);

  const plain = await read('fp4-plain');
  const plainLinear = 2 * (2 * 128 * 128 + 2 * 64 * 128 + 3 * 128 * 64);
  const plainRest = plain.parameterCount - plainLinear;
  expect(weightMemory(plain, 'bfloat16')).toBe(plainLinear * (1 / 2 + 4 / 64) + 2 * plainRest);
});

test('what stays in 8 bits counts a byte for a number, four for a scale and for a row', async () => {
  const model = await read('fp8-blocks');
  const linear = 2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 128;
  const rows = 2 * 64 + 2 * 32 + 2 * 128 + 64;
  const bytes = linear + (4 * linear) / (32 * 32) + 4 * rows;
  expect(weightMemory(model, 'bfloat16')).toBe(bytes + 2 * (model.parameterCount - linear));
  expect(decodedMemory(model, 'bfloat16', 'avx512bf16')).toBe(0);
  // With 64 columns beside those of gate and up.
  expect(decodedMemory(model, 'bfloat16', 'cuda')).toBe(2 * (2 * 128) * (64 + 64));
  const powers = await read('fp8-powers');
  expect(weightMemory(powers, 'bfloat16')).toBe(2 * powers.parameterCount);
});

test('what is decoded when it is loaded counts in full', async () => {
  const narrow = await read('nf4-narrow-bfloat16');
  expect(weightMemory(narrow, 'bfloat16')).toBe(2 * narrow.parameterCount);
  expect(decodedMemory(narrow, 'bfloat16', 'generic')).toBe(0);
  const mixed = await read('nf4-mixed');
  // In the first layer q, k and v, in the second one down.
  const decoded = 64 * 64 + 2 * 32 * 64 + 64 * 128;
  const packed = 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 128) - decoded;
  expect(weightMemory(mixed, 'bfloat16')).toBe(packed * (33 / 64 + 1 / 4096) + 2 * (mixed.parameterCount - packed));
  // On the CUDA engine, 64 columns of q, k and v and 64 rows of down.
  expect(weightMemory(mixed, 'bfloat16', 'cuda') - weightMemory(mixed, 'bfloat16')).toBe(2 * 64 * (128 + 128));
  expect(weightMemory(mixed, 'bfloat16', 'avx512bf16')).toBe(weightMemory(mixed, 'bfloat16'));
});

test('products that decode on the way need no place for it, others that of the largest weights', async () => {
  const mixed = await read('nf4-mixed');
  // Gate and up are decoded for one product.
  const gateUp = 2 * 64 * 128;
  const bytes = (kernels: MachineKernels) => [
    decodedMemory(mixed, 'float32', kernels),
    decodedMemory(mixed, 'bfloat16', kernels),
  ];
  expect(bytes('avx512bf16')).toEqual([0, 0]);
  // Its products in bfloat16 are TensorFlow's.
  expect(bytes('avx512')).toEqual([0, 2 * gateUp]);
  for (const kernels of ['avx2', 'generic', 'tensorflow'] as const) {
    expect(bytes(kernels), kernels).toEqual([4 * gateUp, 2 * gateUp]);
  }
  // On the CUDA engine with 64 columns for an adapter.
  expect(bytes('cuda')).toEqual([4 * 2 * gateUp, 2 * 2 * gateUp]);
});

test('what is quantized when it is loaded counts as if it were stored so', async () => {
  const original = await readModelFolder(join(fixtures, 'nf4-original/original'));
  const stored = await read('nf4-original');
  const made = withBaseQuantization(original, 'nf4');
  for (const precision of ['bfloat16', 'float32'] as const) {
    expect(weightMemory(made, precision)).toBe(weightMemory(stored, precision));
    expect(decodedMemory(made, precision, 'cuda')).toBe(decodedMemory(stored, precision, 'cuda'));
  }
  expect(weightMemory(original, 'bfloat16')).toBe(2 * original.parameterCount);
});

test('experts that are quantized when they are loaded count as layers in 4 bits, in whatever form the files have them', async () => {
  const path = await mkdtemp(join(tmpdir(), 'weight-memory-'));
  onTestFinished(() => rm(path, { recursive: true }));
  const [experts, hidden, intermediate] = [3, 64, 320];
  const sizes = { num_experts: experts, moe_intermediate_size: intermediate, num_hidden_layers: 1 };
  const config = { ...SMALL_MIXTURE, ...sizes, hidden_size: hidden };
  await writeRandomModel(join(path, 'fused'), config);
  await writeRandomModel(join(path, 'each'), config, { hasTensor: eachByItself });
  const packed = experts * 3 * hidden * intermediate + 2 * 64 * hidden + 2 * 32 * hidden;
  for (const name of ['fused', 'each']) {
    const model = withBaseQuantization(await readModelFolder(join(path, name)), 'nf4');
    const rest = model.parameterCount - packed;
    expect(weightMemory(model, 'bfloat16'), name).toBe(packed * (1 / 2 + 1 / 64 + 4 / (64 * 256)) + 2 * rest);
    expect(decodedMemory(model, 'bfloat16', 'avx512bf16')).toBe(0);
    // Gate and up of one expert; on the CUDA engine of all that are decoded at a time.
    expect(decodedMemory(model, 'bfloat16', 'tensorflow')).toBe(2 * 2 * intermediate * hidden);
    expect(decodedMemory(model, 'bfloat16', 'cuda')).toBe(experts * 2 * 2 * intermediate * hidden);
  }
});

test('as many experts count as decoded as 256 MiB hold, and at least one', async () => {
  const path = await mkdtemp(join(tmpdir(), 'weight-memory-'));
  onTestFinished(() => rm(path, { recursive: true }));
  const config = { ...SMALL_MIXTURE, num_experts: 3, moe_intermediate_size: 320, num_hidden_layers: 1 };
  await writeRandomModel(path, { ...config, hidden_size: 64 });
  const model = withBaseQuantization(await readModelFolder(path), 'nf4');
  const withExperts = (experts: number, outFeatures: number) => {
    const parameters = [...model.expertParameters].map(([name, parameter]) => {
      return [name, { ...parameter, experts, outFeatures }] as const;
    });
    return { ...model, expertParameters: new Map(parameters) };
  };
  const widest = Math.max(...[...model.expertParameters.values()].map(({ inFeatures }) => inFeatures));
  // 100 MiB each, then 300 MiB.
  const wide = (100 * 2 ** 20) / (2 * widest);
  expect(decodedMemory(withExperts(8, wide), 'bfloat16', 'cuda')).toBe(2 * 100 * 2 ** 20);
  expect(decodedMemory(withExperts(8, 3 * wide), 'bfloat16', 'cuda')).toBe(300 * 2 ** 20);
  expect(decodedMemory(withExperts(8, wide), 'bfloat16', 'avx2')).toBe(100 * 2 ** 20);
});
