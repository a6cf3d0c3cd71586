import { cp, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describeModel, openBaseModel, WeightDigests } from '@lorasmith/model-folder';
import { openStores, type Stores } from '@lorasmith/storage';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { type RealS3, startRealS3 } from '../../../test/real-s3.js';
import { writeTinyLlama } from '../../../test/tiny-llama.js';
import { MODELS_KIND, type ModelSource, openModelSource, pushModel } from '../src/index.js';

const NAME = 'tiny-llama';

let server: RealS3;
let root: string;
let modelsDir: string;
const opened: Stores[] = [];
let tests = 0;

beforeAll(async () => {
  server = await startRealS3();
});
afterAll(() => server?.stop());
beforeEach(async () => {
  tests++;
  root = await mkdtemp(path.join(tmpdir(), 'lorasmith-model-store-'));
  modelsDir = path.join(root, 'models');
  await writeTinyLlama(path.join(modelsDir, NAME));
});
afterEach(async () => {
  for (const stores of opened.splice(0)) stores.close();
  await rm(root, { recursive: true, force: true });
});

/** A host with an empty models folder. */
async function host(name: string, hostModelsDir = path.join(root, name, 'no-models')) {
  const dataDir = path.join(root, name);
  const s3 = { ...server.settings, prefix: `test-${tests}/`, cacheBytes: 2 ** 30 };
  const stores = await openStores({ dataDir, s3 });
  opened.push(stores);
  const digests = new WeightDigests(path.join(dataDir, 'weight-digests'));
  const models: ModelSource = await openModelSource({ modelsDir: hostModelsDir, stores, digests });
  return { dataDir, models, digests, store: await stores.s3!.open(MODELS_KIND), cache: stores.s3!.cache };
}

test('another host lists, describes and holds a pushed model, bit for bit', async () => {
  const first = await host('first', modelsDir);
  const pushed = await pushModel({ store: first.store, modelsDir, name: NAME, replace: false });
  expect(pushed?.files.map(({ name }) => name)).toContain('model.safetensors');

  const other = await host('other');
  const local = await describeModel(modelsDir, NAME);
  const { modules: _, ...listed } = local;
  expect(await other.models.describe(NAME)).toEqual(local);
  expect(await other.models.list()).toEqual([listed]);
  const held = await other.models.lease(NAME);
  const fetched = await openBaseModel(held.modelsDir, NAME);
  expect(fetched.name).toBe(NAME);
  const digests = new WeightDigests(null);
  expect(await digests.compute(fetched)).toBe(await digests.compute(await openBaseModel(modelsDir, NAME)));
  held.release();
});

test('a model whose weights have a separate head although config.json ties it is not pushed', async () => {
  const { store } = await host('first', modelsDir);
  const folder = path.join(modelsDir, 'untied');
  await cp(new URL('../../../test/fixtures/families/tied-head-differs/base', import.meta.url), folder, {
    recursive: true,
  });
  const push = () => pushModel({ store, modelsDir, name: 'untied', replace: false });
  await expect(push()).rejects.toMatchObject({ message: expect.stringContaining('tie_word_embeddings') });
  const config = JSON.parse(await readFile(path.join(folder, 'config.json'), 'utf8'));
  await writeFile(path.join(folder, 'config.json'), JSON.stringify({ ...config, tie_word_embeddings: false }));
  expect(await push()).not.toBeNull();
});

test('an outline has all files with their sizes, but only the headers of the weights', async () => {
  // The weights of a real model are far larger than their header.
  const file = path.join(modelsDir, NAME, 'model.safetensors');
  const weights = await readFile(file);
  const headerBytes = 8 + Number(weights.readBigUInt64LE());
  const first = await host('first', modelsDir);
  await pushModel({ store: first.store, modelsDir, name: NAME, replace: false });

  const other = await host('other');
  const outline = await other.models.leaseWithoutWeights(NAME);
  const outlined = path.join(outline.modelsDir, NAME, 'model.safetensors');
  expect((await stat(outlined)).size).toBe(weights.length);
  const bytes = await readFile(outlined);
  expect(bytes.subarray(0, headerBytes)).toEqual(weights.subarray(0, headerBytes));
  expect(bytes.subarray(headerBytes).every((byte) => byte === 0)).toBe(true);
  for (const name of ['config.json', 'tokenizer.json']) {
    const copy = await readFile(path.join(outline.modelsDir, NAME, name));
    expect(copy).toEqual(await readFile(path.join(modelsDir, NAME, name)));
  }
  const digest = await new WeightDigests(null).compute(await openBaseModel(modelsDir, NAME));
  expect(await other.digests.known(await openBaseModel(outline.modelsDir, NAME))).toBe(digest);
  // The complete model and the outline have separate entries in the cache.
  const whole = await other.models.lease(NAME);
  expect(await readFile(path.join(whole.modelsDir, NAME, 'model.safetensors'))).toEqual(weights);
  outline.release();
  whole.release();
});

test('a model of this host takes precedence over one in the store, and is not copied', async () => {
  const first = await host('first', modelsDir);
  await pushModel({ store: first.store, modelsDir, name: NAME, replace: false });
  const held = await first.models.lease(NAME);
  expect(held.modelsDir).toBe(modelsDir);
  expect(await first.cache.usedBytes()).toBe(0);
});

test('a name in use is replaced only on request, and a held model is kept', async () => {
  const first = await host('first', modelsDir);
  const push = (replace: boolean) => pushModel({ store: first.store, modelsDir, name: NAME, replace });
  expect(await push(false)).not.toBeNull();
  expect(await push(false)).toBeNull();
  const other = await host('other');
  const old = await other.models.lease(NAME);
  await writeFile(path.join(modelsDir, NAME, 'README.md'), 'a new one');
  expect((await push(true))?.files.map(({ name }) => name)).toContain('README.md');
  await expect(readFile(path.join(old.modelsDir, NAME, 'README.md'))).rejects.toThrow('ENOENT');
  expect((await stat(path.join(old.modelsDir, NAME, 'model.safetensors'))).isFile()).toBe(true);
  const renewed = await other.models.lease(NAME);
  expect(await readFile(path.join(renewed.modelsDir, NAME, 'README.md'), 'utf8')).toBe('a new one');
  old.release();
  renewed.release();
});

test('an unknown name or a path is not found, and the error lists the existing names', async () => {
  const first = await host('first', modelsDir);
  await pushModel({ store: first.store, modelsDir, name: NAME, replace: false });
  const { models } = await host('other');
  for (const name of ['none', '../tiny-llama', 'tiny-llama/config.json', '']) {
    for (const call of [
      () => models.lease(name),
      () => models.leaseWithoutWeights(name),
      () => models.describe(name),
    ]) {
      await expect(call()).rejects.toMatchObject({ code: 'model_not_found', message: expect.stringContaining(NAME) });
    }
  }
});

test('a folder that is not a base model is not pushed', async () => {
  const first = await host('first', modelsDir);
  await cp(path.join(modelsDir, NAME), path.join(modelsDir, 'broken'), { recursive: true });
  await rm(path.join(modelsDir, 'broken', 'model.safetensors'));
  await expect(pushModel({ store: first.store, modelsDir, name: 'broken', replace: false })).rejects.toMatchObject({
    code: 'model_file_missing',
  });
  expect(await first.store.list()).toEqual([]);
});
