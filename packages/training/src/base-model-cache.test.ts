import { cp, mkdtemp, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { JobDeferred } from '@lorasmith/contracts';
import { readModelFolder, WeightDigests, withBaseQuantization } from '@lorasmith/model-folder';
import { chooseKernels, type FloatDType } from '@lorasmith/tensor';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { BaseModelCache } from './base-model-cache.js';

const kernels = chooseKernels('raw');

const BASE = new URL('../../../test/fixtures/reference/llama-tied/base', import.meta.url).pathname;

let folder: string;
let cache: BaseModelCache;
beforeEach(async () => {
  folder = join(await mkdtemp(join(tmpdir(), 'base-model-cache-')), 'model');
  await cp(BASE, folder, { recursive: true });
  cache = new BaseModelCache(kernels);
});
afterEach(async () => {
  cache.dispose();
  await rm(join(folder, '..'), { recursive: true });
});

/** Digests as they are in a minute, when the files have settled. */
const digests = new WeightDigests(null, { now: () => Date.now() + 60_000 });
const hold = async (dtype: FloatDType = 'float32') =>
  await cache.lease(await readModelFolder(folder), dtype, { digests });

/** Gets the model as a run that has ended. */
async function get() {
  const held = await hold();
  held.release();
  return held;
}

test('a model whose files are unchanged is not loaded again', async () => {
  const first = await get();
  expect((await get()).model).toBe(first.model);
});

test('a model whose weights were changed in place is loaded again, though size and modification time are the same', async () => {
  const first = await get();
  const file = join(folder, 'model.safetensors');
  const { atime, mtime } = await stat(file);
  const bytes = await readFile(file);
  bytes[bytes.length - 1]! ^= 1;
  await writeFile(file, bytes);
  await utimes(file, atime, mtime);
  const second = await get();
  expect(second.model).not.toBe(first.model);
  expect(second.weightsSha256).not.toBe(first.weightsSha256);
});

test('a model that was loaded just after its files were written is loaded again: they may have changed unseen', async () => {
  const model = await readModelFolder(folder);
  const options = { digests: new WeightDigests(null) };
  const first = await cache.lease(model, 'float32', options);
  first.release();
  const second = await cache.lease(model, 'float32', options);
  expect(second.model).not.toBe(first.model);
  second.release();
});

test('a model is quantized or not as it is asked for, and one that is held is not loaded in another form', async () => {
  const model = await readModelFolder(folder);
  const quantized = withBaseQuantization(model, 'nf4');
  const first = await cache.lease(quantized, 'float32', { digests });
  expect(cache.formOf('model')).toEqual({ dtype: 'float32', quantization: 'nf4' });
  await expect(cache.lease(model, 'float32', { digests })).rejects.toThrow(
    /^model in float32 cannot be loaded while model in float32 with nf4 is in use\.$/,
  );
  first.release();
  const second = await cache.lease(model, 'float32', { digests });
  expect(second.model).not.toBe(first.model);
  expect(second.weightsSha256).toBe(first.weightsSha256);
  second.release();
});

test('runs on one model share it, and another one is loaded only when nobody holds it', async () => {
  const [first, second] = await Promise.all([hold(), hold()]);
  expect(second.model).toBe(first.model);
  await expect(hold('bfloat16')).rejects.toBeInstanceOf(JobDeferred);
  first.release();
  await expect(hold('bfloat16')).rejects.toThrow(
    /^model in bfloat16 cannot be loaded while model in float32 is in use\.$/,
  );
  const third = await hold();
  expect(third.model).toBe(first.model);
  for (const held of [second, third]) held.release();
  const other = await hold('bfloat16');
  expect(other.model.dtype).toBe('bfloat16');
  other.release();
});
