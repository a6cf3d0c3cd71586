import { cp, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { localModels } from '@lorasmith/base-models';
import { digestArchitecture, readModelFolder } from '@lorasmith/model-folder';
import { NO_TRACING } from '@lorasmith/service-kit';
import { digestFile, type LocalBundleStore, openBundleStore } from '@lorasmith/storage';
import { openSafetensors, toFloat32 } from '@lorasmith/weight-files';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { HAS_ALL_CASES } from '../../../test/usual-cases.js';
import { AdapterLibrary } from '../src/adapters/adapter-library.js';
import { MergedModels, type MergedModelsDependencies, type MergeEvent } from '../src/merging/merged-models.js';
import { faultyProgram, mergeProgram } from './merge-program.js';
import { adapterId, addBaseModel, publishReferenceAdapter, REFERENCE } from './published-adapter.js';

let root: string;
let adapters: LocalBundleStore;
let merged: LocalBundleStore;
let library: AdapterLibrary;
let events: MergeEvent[];
const opened: MergedModels[] = [];

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'merged-models-'));
  adapters = await openBundleStore({ root: join(root, 'data'), kind: 'adapters' });
  merged = await openBundleStore({ root: join(root, 'data'), kind: 'merged' });
  library = new AdapterLibrary({ store: adapters, onBroken: () => {} });
  events = [];
  for (const name of ['llama-tied', 'qwen2']) await addBaseModel(join(root, 'models'), name);
});
afterEach(async () => {
  await Promise.all(opened.splice(0).map((models) => models.close()));
  await rm(root, { recursive: true });
});

async function openModels(change: Partial<MergedModelsDependencies> = {}): Promise<MergedModels> {
  const models = await MergedModels.open({
    adapters,
    merged,
    baseModels: localModels(join(root, 'models')),
    weightDigests: join(root, 'data/weight-digests'),
    program: mergeProgram(),
    cacheBytes: 2 ** 30,
    mergeTimeoutMs: 60_000,
    waitTimeoutMs: 60_000,
    tracing: NO_TRACING,
    onEvent: (event) => events.push(event),
    ...change,
  });
  opened.push(models);
  return models;
}

async function publish(number: number, name = 'llama-tied') {
  await publishReferenceAdapter(adapters, { id: adapterId(number), name });
  return await library.check(adapterId(number));
}

const merges = () => events.filter(({ type }) => type === 'merge-started').length;
const stagings = () => readdir(join(root, 'data/.staging'));

test('for concurrent requests a merged model is computed once, with the same weights as from PEFT', async () => {
  const adapter = await publish(1);
  const models = await openModels();
  const leases = await Promise.all(Array.from({ length: 8 }, () => models.acquire(adapter)));
  expect(merges()).toBe(1);
  for (const { files } of leases) expect(files).toEqual(leases[0]!.files);
  expect(leases[0]!.files.map(({ name }) => name)).toEqual([
    'README.md',
    'config.json',
    'generation_config.json',
    'model.safetensors',
  ]);
  for (const { name, bytes, sha256 } of leases[0]!.files) {
    expect(await digestFile(merged.path(adapter.id, name))).toEqual({ bytes, sha256 });
  }
  const ours = await openSafetensors(merged.path(adapter.id, 'model.safetensors'));
  const theirs = await openSafetensors(join(REFERENCE, 'llama-tied/merged/model.safetensors'));
  for (const name of theirs.tensors.keys()) {
    const expected = toFloat32(await theirs.read(name), 'F32');
    const found = toFloat32(await ours.read(name), 'F32');
    expect(found.length).toBe(expected.length);
    expect(Math.max(...found.map((value, index) => Math.abs(value - expected[index]!)))).toBeLessThan(1e-5);
  }
  await Promise.all([ours.close(), theirs.close()]);
  (await models.acquire(adapter)).release();
  // The next process finds it too.
  (await (await openModels()).acquire(adapter)).release();
  expect(merges()).toBe(1);
  expect(await stagings()).toEqual([]);
});

test.runIf(HAS_ALL_CASES)('the error names a base model whose config.json has changed', async () => {
  const { architecture } = await readModelFolder(join(root, 'models/llama-tied'));
  for (const [number, digest] of [digestArchitecture(architecture), 'f'.repeat(64)].entries()) {
    await publishReferenceAdapter(adapters, {
      id: adapterId(number),
      name: 'llama-tied',
      change: (manifest) => {
        manifest.base_model.architecture_sha256 = digest;
      },
    });
  }
  const models = await openModels();
  (await models.acquire(await library.check(adapterId(0)))).release();
  await expect(models.acquire(await library.check(adapterId(1)))).rejects.toMatchObject({
    code: 'conflict',
    message: expect.stringContaining('config.json'),
  });
});

test('the least recently used model is evicted, one in use never', async () => {
  const [first, second, third] = [await publish(1), await publish(2), await publish(3)];
  const one = await (await openModels()).acquire(first);
  const bytes = (await merged.files(first.id)).reduce((sum, file) => sum + file.bytes, 0);
  one.release();
  // Space for two, by the estimate before a merge.
  const models = await openModels({ cacheBytes: Math.ceil(2.2 * bytes) });
  (await models.acquire(second)).release();
  const held = await models.acquire(first);
  (await models.acquire(third)).release();
  expect(await merged.list()).toEqual([first.id, third.id]);
  const alsoHeld = await models.acquire(third);
  await expect(models.acquire(second)).rejects.toMatchObject({ code: 'service_unavailable' });
  held.release();
  held.release();
  (await models.acquire(second)).release();
  expect(await merged.list()).toEqual([second.id, third.id]);
  alsoHeld.release();
});

test.runIf(HAS_ALL_CASES)('after a restart the order of use and the limit still apply', async () => {
  const models = await openModels();
  for (const number of [1, 2, 3]) (await models.acquire(await publish(number))).release();
  await utimes(merged.folder(adapterId(2)), new Date(), new Date(Date.now() + 60_000));
  await utimes(merged.folder(adapterId(1)), new Date(), new Date(Date.now() - 60_000));
  const bytes = (await merged.files(adapterId(1))).reduce((sum, file) => sum + file.bytes, 0);
  await openModels({ cacheBytes: Math.ceil(2.2 * bytes) });
  expect(await merged.list()).toEqual([adapterId(2), adapterId(3)]);
  await adapters.delete(adapterId(3));
  await openModels();
  expect(await merged.list()).toEqual([adapterId(2)]);
});

test('a model that can never fit is refused before it is computed', async () => {
  const models = await openModels({ cacheBytes: 1000 });
  await expect(models.acquire(await publish(1))).rejects.toMatchObject({
    code: 'storage_full',
    message: expect.stringContaining('MERGED_CACHE_BYTES'),
  });
  expect(merges()).toBe(0);
});

test.runIf(HAS_ALL_CASES)('a merged model with a missing file is computed again', async () => {
  const adapter = await publish(1);
  const models = await openModels();
  (await models.acquire(adapter)).release();
  await writeFile(merged.path(adapter.id, 'model.safetensors'), 'cut');
  (await models.acquire(adapter)).release();
  expect(merges()).toBe(2);
  expect((await stat(merged.path(adapter.id, 'model.safetensors'))).size).toBeGreaterThan(1000);
});

test('the error names a missing or changed base model', async () => {
  const adapter = await publish(1);
  const models = await openModels();
  const base = join(root, 'models/llama-tied');
  await rm(base, { recursive: true });
  await expect(models.acquire(adapter)).rejects.toMatchObject({
    code: 'model_not_found',
    message: expect.stringContaining('llama-tied'),
  });
  await addBaseModel(join(root, 'models'), 'llama-tied');
  await cp(join(REFERENCE, 'llama-tied/merged/model.safetensors'), join(base, 'model.safetensors'));
  await expect(models.acquire(adapter)).rejects.toMatchObject({
    code: 'conflict',
    message: expect.stringContaining('llama-tied'),
  });
  expect(await merged.list()).toEqual([]);
  expect(await stagings()).toEqual([]);
});

test('an adapter whose merge is not finite is refused', async () => {
  await publishReferenceAdapter(adapters, {
    id: adapterId(1),
    name: 'llama-tied',
    prepare: async (folder) => {
      const file = join(folder, 'adapter_config.json');
      const config = JSON.parse(await readFile(file, 'utf8'));
      await writeFile(file, JSON.stringify({ ...config, lora_alpha: 1e300 }));
    },
  });
  const models = await openModels();
  const adapter = await library.check(adapterId(1));
  await expect(models.acquire(adapter)).rejects.toMatchObject({ code: 'merge_not_finite', status: 422 });
  expect(await merged.list()).toEqual([]);
  expect(await stagings()).toEqual([]);
});

test.runIf(HAS_ALL_CASES)('a crash of the merge process is reported, and the next attempt works', async () => {
  const adapter = await publish(1);
  const crashing = await openModels({ program: faultyProgram('crash') });
  const asked = await Promise.allSettled([crashing.acquire(adapter), crashing.acquire(adapter)]);
  for (const answer of asked) {
    expect(answer).toMatchObject({ status: 'rejected', reason: { code: 'merge_crashed', status: 500 } });
  }
  expect(merges()).toBe(1);
  const failed = events.find((event) => event.type === 'merge-failed');
  expect((failed!.error as Error).cause).toMatchObject({ message: expect.stringContaining('terminate called') });
  expect(await stagings()).toEqual([]);
  (await (await openModels()).acquire(adapter)).release();
});

test('a merge that takes too long is stopped', async () => {
  const models = await openModels({ program: faultyProgram('hang'), mergeTimeoutMs: 300 });
  await expect(models.acquire(await publish(1))).rejects.toMatchObject({ code: 'timeout' });
  expect(await stagings()).toEqual([]);
});

test('a request that waits too long gets a timeout, and the merge continues', async () => {
  const adapter = await publish(1);
  const models = await openModels({ waitTimeoutMs: 1 });
  await expect(models.acquire(adapter)).rejects.toMatchObject({ code: 'timeout', status: 504 });
  await expect.poll(() => merged.has(adapter.id)).toBe(true);
  (await models.acquire(adapter)).release();
  expect(merges()).toBe(1);
});

test('closing ends running and waiting merges', async () => {
  const [first, second] = [await publish(1), await publish(2)];
  const models = await openModels({ program: faultyProgram('hang') });
  const answers = Promise.allSettled([models.acquire(first), models.acquire(second)]);
  await expect.poll(merges).toBe(1);
  await models.close();
  for (const answer of await answers) {
    expect(answer).toMatchObject({ status: 'rejected', reason: { code: 'service_unavailable' } });
  }
  expect(await stagings()).toEqual([]);
});

test.each(['merge-started', 'merge-progressed'] as const)(
  'an adapter that is deleted while it is merged (%s) leaves no merged model',
  async (type) => {
    const adapter = await publish(1);
    const models = await openModels({ onEvent: (event) => event.type === type && void adapters.delete(adapter.id) });
    await expect(models.acquire(adapter)).rejects.toMatchObject({ code: 'adapter_not_found' });
    expect(await merged.list()).toEqual([]);
  },
);
