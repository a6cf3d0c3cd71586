import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readModelFolder } from '@lorasmith/model-folder';
import { chooseKernels, type FloatDType, liveTensorCount, scope, toFloat32Array } from '@lorasmith/tensor';
import { type FloatDtype, fromFloat32, openSafetensors, toFloat32, writeSafetensors } from '@lorasmith/weight-files';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { greatestDifference } from '../../../../test/numeric/greatest-difference.js';
import { loadClassifier } from '../load-base-model.js';
import { loadDecoder } from './load-decoder.js';

const kernels = chooseKernels('raw');

const REFERENCE = fileURLToPath(new URL('../../../../test/fixtures/reference', import.meta.url));

let folder: string;
beforeEach(async () => {
  folder = join(await mkdtemp(join(tmpdir(), 'load-decoder-')), 'model');
  await cp(join(REFERENCE, 'qwen2/base'), folder, { recursive: true });
});
afterEach(() => rm(join(folder, '..'), { recursive: true }));

async function weightsOf(path: string): Promise<Map<string, { shape: readonly number[]; values: Float32Array }>> {
  const file = await openSafetensors(path);
  const weights = new Map<string, { shape: readonly number[]; values: Float32Array }>();
  for (const [name, { shape }] of file.tensors) {
    weights.set(name, { shape, values: toFloat32(await file.read(name), 'F32') });
  }
  await file.close();
  return weights;
}

/** Stores the weights in another dtype, in two files; gives what they are then. */
async function store(dtype: FloatDtype): Promise<Map<string, Float32Array>> {
  const whole = join(folder, 'model.safetensors');
  const weights = [...(await weightsOf(whole))];
  await rm(whole);
  const stored = new Map<string, Float32Array>();
  const weightMap: Record<string, string> = {};
  for (const part of [0, 1]) {
    const name = `model-0000${part + 1}-of-00002.safetensors`;
    const own = weights.filter((_, index) => index % 2 === part);
    const tensors = own.map(([tensor, { shape, values }]) => {
      const data = fromFloat32(values, dtype);
      stored.set(tensor, toFloat32(data, dtype));
      weightMap[tensor] = name;
      return { name: tensor, dtype, shape, data };
    });
    await writeSafetensors(join(folder, name), tensors);
  }
  await writeFile(join(folder, 'model.safetensors.index.json'), JSON.stringify({ weight_map: weightMap }));
  return stored;
}

describe.each(['F32', 'F16', 'BF16'] as const)('weights stored as %s, in several files', (stored) => {
  test.each(['float32', 'bfloat16'] as const)('are read into %s', async (dtype) => {
    const expected = await store(stored);
    const progress: number[] = [];
    const model = await readModelFolder(folder);
    const decoder = await loadDecoder(model, dtype, kernels, {
      onProgress: ({ readBytes, totalBytes }) => progress.push(readBytes / totalBytes),
    });
    const { layers, embedding, finalNorm } = decoder.weights;
    const qkv = ['q', 'k', 'v'].map((letter) => `model.layers.1.self_attn.${letter}_proj`);
    const stacked = (suffix: string) => qkv.flatMap((name) => [...expected.get(`${name}.${suffix}`)!]);
    const [group] = layers[1]!.groups;
    const { linear } = group!;
    expect(group!.modules.map(({ name }) => name)).toEqual(qkv);
    // A bfloat16 differs from the number it stands for by at most 2⁻⁸ of it.
    const share = dtype === 'bfloat16' && stored !== 'BF16' ? 2 ** -8 : 0;
    const check = (actual: Float32Array, wanted: ArrayLike<number>) => {
      const largest = Array.from(wanted).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      expect(greatestDifference(actual, wanted)).toBeLessThanOrEqual(share * largest);
    };
    check(
      scope(() => toFloat32Array(linear.weightRows(0, linear.outFeatures))),
      stacked('weight'),
    );
    check(
      scope(() => toFloat32Array(linear.biasRows(0, linear.outFeatures)!)),
      stacked('bias'),
    );
    check(toFloat32Array(embedding), expected.get('model.embed_tokens.weight')!);
    expect(embedding.dtype).toBe(dtype);
    // Norms stay exact in either.
    expect(finalNorm.weight.dtype).toBe('float32');
    expect(toFloat32Array(finalNorm.weight)).toEqual(expected.get('model.norm.weight'));
    expect(progress).toEqual([...progress].sort((a, b) => a - b));
    expect(progress.at(-1)).toBeGreaterThan(0.9);
    expect(progress.at(-1)).toBeLessThanOrEqual(1);
    decoder.dispose();
  });
});

test('a tied head is the embedding itself, in memory once', async () => {
  const decoder = await loadDecoder(await readModelFolder(join(REFERENCE, 'llama-tied/base')), 'float32', kernels);
  expect(decoder.weights.head).toBe(decoder.weights.embedding);
  decoder.dispose();
  const untied = await loadDecoder(
    await readModelFolder(join(REFERENCE, 'llama-untied-all-linear/base')),
    'float32',
    kernels,
  );
  expect(untied.weights.head).not.toBe(untied.weights.embedding);
  untied.dispose();
});

test.each(['float32', 'bfloat16'] as const)(
  'loaded and disposed of in %s, nothing is left alive',
  async (dtype: FloatDType) => {
    const model = await readModelFolder(folder);
    const before = liveTensorCount();
    const decoder = await loadDecoder(model, dtype, kernels);
    scope(() => decoder.logits({ ids: Int32Array.of(3, 4, 5), rowLengths: [3] }));
    decoder.dispose();
    // Constants, made once and kept, are all that may have come.
    const again = liveTensorCount();
    const second = await loadDecoder(model, dtype, kernels);
    expect(liveTensorCount()).toBeGreaterThan(again);
    second.dispose();
    expect(liveTensorCount()).toBe(again);
    expect(again - before).toBeLessThan(10);
  },
);

test('a file that ends early is refused by its code', async () => {
  const path = join(folder, 'model.safetensors');
  const model = await readModelFolder(folder);
  const bytes = await readFile(path);
  await writeFile(path, bytes.subarray(0, bytes.length - 100));
  await expect(loadDecoder(model, 'float32', kernels)).rejects.toMatchObject({ code: 'model_file_corrupt' });
});

test('when reading fails half way, what was read is freed', async () => {
  const model = await readModelFolder(folder);
  const before = liveTensorCount();
  const onProgress = ({ readBytes, totalBytes }: { readBytes: number; totalBytes: number }) => {
    if (readBytes > totalBytes / 2) throw new Error('the disk is gone');
  };
  await expect(loadDecoder(model, 'float32', kernels, { onProgress })).rejects.toThrow('the disk is gone');
  expect(liveTensorCount()).toBe(before);
});

test('a model of another kind is refused', async () => {
  await expect(loadClassifier(await readModelFolder(folder), 'float32', kernels)).rejects.toThrow('not a classifier');
});

test('GPT-2 as OpenAI wrote it, without the prefix of its modules, is the same model', async () => {
  const gpt2 = fileURLToPath(new URL('../../../../test/fixtures/families/gpt2/base', import.meta.url));
  const file = await openSafetensors(join(gpt2, 'model.safetensors'));
  const tensors = [];
  for (const { name, dtype, shape } of file.tensors.values()) {
    tensors.push({ name: name.replace('transformer.', ''), dtype, shape, data: await file.read(name) });
  }
  await file.close();
  await writeSafetensors(join(folder, 'model.safetensors'), tensors);
  await cp(join(gpt2, 'config.json'), join(folder, 'config.json'));
  const logitsOf = async (path: string) => {
    const decoder = await loadDecoder(await readModelFolder(path), 'float32', kernels);
    const logits = scope(() => toFloat32Array(decoder.logits({ ids: Int32Array.of(3, 9, 27, 17), rowLengths: [4] })));
    decoder.dispose();
    return logits;
  };
  expect(await logitsOf(folder)).toEqual(await logitsOf(gpt2));
});

test("a router's weight that is not finite is named when the model is loaded", async () => {
  const path = join(folder, 'model.safetensors');
  await rm(folder, { recursive: true });
  await cp(join(REFERENCE, '../families/qwen3_moe/base'), folder, { recursive: true });
  const tensors = [...(await weightsOf(path))];
  const name = 'model.layers.2.mlp.gate.weight';
  tensors.find(([tensor]) => tensor === name)![1].values[3 * 16 + 5] = Number.NaN;
  const stored = tensors.map(([tensor, { shape, values }]) => {
    return { name: tensor, dtype: 'F32' as const, shape, data: fromFloat32(values, 'F32') };
  });
  await writeSafetensors(path, stored);
  const before = liveTensorCount();
  await expect(loadDecoder(await readModelFolder(folder), 'float32', kernels)).rejects.toThrow(
    `tensor ${name} has NaN for expert 3, but must be finite`,
  );
  expect(liveTensorCount()).toBe(before);
});
