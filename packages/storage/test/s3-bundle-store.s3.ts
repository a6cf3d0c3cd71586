import { createHash } from 'node:crypto';
import { appendFile, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { mapWithConcurrency } from '@lorasmith/concurrency';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type RealS3, startRealS3 } from '../../../test/real-s3.js';
import { type BundleCache, openBundleCache } from '../src/bundle-cache.js';
import { BundleIndex } from '../src/bundle-index.js';
import { bundleKeys } from '../src/s3/bundle-objects.js';
import { openS3Annotations, openS3BundleStore, type S3BundleStore, s3EntryNames } from '../src/s3/s3-bundle-store.js';
import { openS3Objects, type S3Objects } from '../src/s3/s3-objects.js';
import { describeBundleStore, publish } from './bundle-store-suite.js';

const MEBIBYTE = 2 ** 20;

let server: RealS3;
let objects: S3Objects;
let root: string;
let cache: BundleCache;
let store: S3BundleStore;
let tests = 0;

beforeAll(async () => {
  server = await startRealS3();
});
afterAll(() => server?.stop());
beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'lorasmith-s3-host-'));
  objects = openS3Objects({ ...server.settings, prefix: `test-${tests++}/` });
  cache = await openBundleCache({ root, maxBytes: 64 * MEBIBYTE });
  store = await openS3BundleStore({ objects, cache, root, kind: 'datasets' });
});
afterEach(async () => {
  objects.close();
  await rm(root, { recursive: true, force: true });
});

describeBundleStore(() => ({
  root,
  store,
  index: new BundleIndex(s3EntryNames(objects, 'datasets/index/')),
  openOther: (kind) => openS3BundleStore({ objects, cache, root, kind }),
}));

/** The same store on another host, which shares nothing but S3. */
async function otherHost(maxBytes = 64 * MEBIBYTE) {
  const otherRoot = await mkdtemp(path.join(root, 'other-host-'));
  const otherCache = await openBundleCache({ root: otherRoot, maxBytes });
  const open = (kind: string) => openS3BundleStore({ objects, cache: otherCache, root: otherRoot, kind });
  return { root: otherRoot, cache: otherCache, store: await open('datasets') };
}

async function keysUnder(prefix: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of objects.list(prefix)) keys.push(key);
  return keys;
}

test('values of things that have no bundle are changed by several hosts at once, and none is lost', async () => {
  const of = { id: 'none.support-bot', created_at: new Date(0).toISOString() };
  const hosts = [1, 2, 3].map(() => openS3Annotations(objects, 'aliases'));
  const add = (by: number) => (value: unknown) => [...((value as number[] | null) ?? []), by];
  await Promise.all([1, 2, 3, 4, 5, 6].map((by) => hosts[by % 3]!.change(of, add(by))));
  const [{ id, value } = { id: '', value: [] }, ...others] = await openS3Annotations(objects, 'aliases').all('none.');
  expect([id, [...(value as number[])].sort(), others]).toEqual([of.id, [1, 2, 3, 4, 5, 6], []]);
  expect(await openS3Annotations(objects, 'adapters').all('')).toEqual([]);
});

test('a file can be downloaded at its temporary address, for a short time and by GET alone', async () => {
  await publish(store, 'ds_1', { 'a.txt': 'abcdef' });
  const options = { seconds: 2, contentType: 'application/json', fileName: 'b.json' };
  const url = (await store.temporaryUrl('ds_1', 'a.txt', options)) ?? '';
  const whole = await fetch(url);
  expect([whole.status, await whole.text()]).toEqual([200, 'abcdef']);
  expect(whole.headers.get('content-type')).toBe('application/json');
  expect(whole.headers.get('content-disposition')).toBe('attachment; filename="b.json"');
  const headers = { range: 'bytes=2-3', 'if-range': whole.headers.get('etag')! };
  const part = await fetch(url, { headers });
  expect([part.status, await part.text()]).toEqual([206, 'cd']);
  for (const [method, other] of [
    ['PUT', url],
    ['DELETE', url],
    ['GET', url.replace('a.txt', 'b.txt')],
  ] as const) {
    expect((await fetch(other, { method })).status).toBe(403);
  }
  await expect.poll(async () => (await fetch(url)).status, { timeout: 10_000, interval: 500 }).toBe(403);
  const missing = store.temporaryUrl('ds_1', 'missing.txt', options);
  await expect(missing).rejects.toMatchObject({ code: 'not_found' });
});

test('a file without a copy on this host has no local path', async () => {
  await publish(store, 'ds_1', { 'a.txt': 'a' });
  const other = await otherHost();
  expect(await other.store.localFile('ds_1', 'a.txt')).toBeNull();
});

describe('on another host', () => {
  test('a bundle is fetched once, checked, and read from there', async () => {
    await publish(store, 'ds_1', { 'a.txt': 'aaa', 'b.txt': '' });
    const other = await otherHost();
    const held = await Promise.all(Array.from({ length: 5 }, () => other.store.lease('ds_1')));
    expect(new Set(held.map(({ folder }) => folder)).size).toBe(1);
    expect(await readdir(held[0]!.folder)).toEqual(['a.txt', 'b.txt']);
    expect((await other.store.localFile('ds_1', 'a.txt'))?.path).toBe(path.join(held[0]!.folder, 'a.txt'));
    for (const { release } of held) release();
    // Its files are deleted from S3, so they can only come from the copy.
    for (const key of await keysUnder('datasets/files/')) await objects.remove(key);
    expect(await text(await other.store.read('ds_1', 'a.txt'))).toBe('aaa');
  });

  test('a file that has changed in the store is refused', async () => {
    await publish(store, 'ds_1', { 'a.txt': 'aaa' });
    const [key] = await keysUnder('datasets/files/');
    await writeFile(path.join(server.objectsDir, `test-${tests - 1}`, key!), 'bbb');
    const other = await otherHost();
    await expect(other.store.lease('ds_1')).rejects.toMatchObject({
      code: 'internal_error',
      message: expect.stringContaining('a.txt'),
    });
    expect(await other.cache.usedBytes()).toBe(0);
  });

  test('a bundle deleted there is missing here, although a copy is stored here', async () => {
    await publish(store, 'ds_1', { 'a.txt': 'a' });
    const other = await otherHost();
    const held = await other.store.lease('ds_1');
    await store.delete('ds_1');
    expect(await other.store.has('ds_1')).toBe(false);
    await expect(other.store.read('ds_1', 'a.txt')).rejects.toMatchObject({ code: 'not_found' });
    // A holder can still read it.
    expect(await readdir(held.folder)).toEqual(['a.txt']);
    held.release();
  });

  test('copies have a limit: the least recently used one is removed, those in use are not', async () => {
    const mebibyte = 'x'.repeat(MEBIBYTE);
    for (const id of ['ds_1', 'ds_2', 'ds_3', 'ds_4']) await publish(store, id, { 'a.txt': mebibyte + id });
    const other = await otherHost(3.5 * MEBIBYTE);
    const first = await other.store.lease('ds_1');
    (await other.store.lease('ds_2')).release();
    (await other.store.lease('ds_3')).release();
    const fourth = await other.store.lease('ds_4');
    expect(await other.cache.usedBytes()).toBeLessThanOrEqual(3.5 * MEBIBYTE);
    expect(await readdir(first.folder)).toEqual(['a.txt']);
    const kept = await readdir(path.join(other.root, 'cache'));
    expect(kept).toHaveLength(3);
    const second = await store.record('ds_2');
    expect(kept).not.toContain(`datasets-${second.upload}`);
    first.release();
    fourth.release();
  });

  test('a bundle that does not fit beside the copies in use is refused with the setting to raise', async () => {
    await publish(store, 'ds_1', { 'a.txt': 'x'.repeat(MEBIBYTE) });
    await publish(store, 'ds_2', { 'a.txt': 'y'.repeat(MEBIBYTE) });
    const other = await otherHost(1.5 * MEBIBYTE);
    const held = await other.store.lease('ds_1');
    await expect(other.store.lease('ds_2')).rejects.toMatchObject({
      code: 'storage_full',
      message: expect.stringContaining('STORE_CACHE_BYTES'),
    });
    expect(await readdir(held.folder)).toEqual(['a.txt']);
    held.release();
    (await other.store.lease('ds_2')).release();
  });
});

test('if two hosts publish the same id, one succeeds and the files of the other are removed', async () => {
  const other = await otherHost();
  const outcomes = await Promise.all([
    publish(store, 'ds_1', { 'a.txt': 'first' }),
    publish(other.store, 'ds_1', { 'a.txt': 'other' }),
  ]);
  expect(outcomes.filter(Boolean)).toHaveLength(1);
  const expected = outcomes[0] ? 'first' : 'other';
  expect(await text(await store.read('ds_1', 'a.txt'))).toBe(expected);
  expect(await text(await other.store.read('ds_1', 'a.txt'))).toBe(expected);
  expect(await keysUnder('datasets/files/')).toHaveLength(1);
});

test('a file of many parts arrives complete, and its source folder is unchanged', async () => {
  const folder = await mkdtemp(path.join(root, 'model-'));
  const hash = createHash('sha256');
  for (let part = 0; part < 20; part++) {
    const bytes = Buffer.alloc(MEBIBYTE, part);
    hash.update(bytes);
    await appendFile(path.join(folder, 'weights.bin'), bytes);
  }
  expect(await store.publishFrom(folder, ['weights.bin'], 'model')).toBe(true);
  expect(await store.publishFrom(folder, ['weights.bin'], 'model')).toBe(false);
  const record = await store.record('model');
  expect(record.files).toEqual([{ name: 'weights.bin', bytes: 20 * MEBIBYTE, sha256: hash.digest('hex') }]);
  const other = await otherHost();
  const held = await other.store.lease('model');
  expect(await readdir(held.folder)).toEqual(['weights.bin']);
  held.release();
  expect(await readdir(folder)).toEqual(['weights.bin']);
});

test('old files without a record are swept, but never a bundle', async () => {
  const swept = await openS3BundleStore({ objects, cache, root, kind: 'datasets', orphanAgeMs: 1 });
  const keys = bundleKeys('datasets');
  await publish(store, 'ds_1', { 'a.txt': 'a' });
  await publish(store, 'ds_2', { 'a.txt': 'a' });
  // Publishers that died before they wrote the record: of a new id, and of an existing one.
  await objects.write(keys.file('ds_0', 'dead1', 'a.txt'), await store.read('ds_1', 'a.txt'), 1);
  await objects.write(keys.file('ds_1', 'dead2', 'a.txt'), await store.read('ds_1', 'a.txt'), 1);
  expect(await store.sweepOrphans(0)).toBe(0);
  // Times in S3 are whole seconds.
  let removed = 0;
  await expect.poll(async () => (removed += await swept.sweepOrphans(0)), { timeout: 30_000 }).toBe(2);
  expect(await keysUnder('datasets/files/')).toHaveLength(2);
  expect(await text(await store.read('ds_1', 'a.txt'))).toBe('a');
  expect(await text(await store.read('ds_2', 'a.txt'))).toBe('a');
});

test('more bundles than one request lists are all listed', async () => {
  const names = Array.from(
    { length: 1_300 },
    (_, i) => `ds_${createHash('sha256').update(String(i)).digest('hex').slice(0, 24)}`,
  );
  const { record } = bundleKeys('datasets');
  await mapWithConcurrency(names, 32, (name) => objects.create(record(name), '{}'));
  expect(await store.list()).toEqual(names.sort());
  expect(await store.list('ds_a')).toEqual(names.filter((name) => name.startsWith('ds_a')));
});

test('a process that dies at any request leaves no bundle without its entry', async () => {
  /** The store of a process that dies before its change `step` of the bucket. */
  const dyingAt = async (step: number) => {
    let changes = 0;
    const orDead = <Args extends unknown[], Result>(change: (...args: Args) => Promise<Result>) => {
      return async (...args: Args): Promise<Result> => {
        if (changes++ >= step) throw new Error('dead');
        return await change(...args);
      };
    };
    const { write, create, remove } = objects;
    const dying = { ...objects, write: orDead(write), create: orDead(create), remove: orDead(remove) };
    return {
      store: await openS3BundleStore({ objects: dying, cache, root, kind: 'datasets' }),
      changes: () => changes,
    };
  };
  const listing = { owner: 'key_1', created_at: '2026-01-01T00:00:00Z', bytes: 1 };
  const isListed = async () => {
    const lists = await Promise.all([store.entries(), store.entries('key_1')]);
    return lists.every((entries) => entries.some(({ id }) => id === 'ds_1'));
  };
  const seen = { without: 0, published: 0, deleted: 0 };
  for (let step = 0; ; step++) {
    const dying = await dyingAt(step);
    await publish(dying.store, 'ds_1', { 'a.txt': 'a', 'b.txt': 'b' }, listing).catch(() => {});
    if (!(await store.has('ds_1'))) {
      seen.without++;
      continue;
    }
    seen.published++;
    expect(await isListed()).toBe(true);
    expect(dying.changes()).toBe(step);
    break;
  }
  for (let step = 0; ; step++) {
    const dying = await dyingAt(step);
    const isDone = await dying.store.delete('ds_1').catch(() => false);
    if (await store.has('ds_1')) {
      expect(await isListed()).toBe(true);
      continue;
    }
    seen.deleted++;
    if (isDone) break;
    await publish(store, 'ds_1', { 'a.txt': 'a', 'b.txt': 'b' }, listing);
  }
  // Two files, two entries and the record, in both directions.
  expect(seen).toEqual({ without: 5, published: 1, deleted: 5 });
  // The entries of the dead are left.
  expect((await store.entries()).length).toBeGreaterThan(0);
  await store.repairIndex(async () => null, 0);
  expect(await keysUnder('datasets/index/')).toEqual([]);
});

test('a bundle that was published without an entry, or copied without it, loses the one of the repair when it is deleted', async () => {
  const listing = { owner: 'key_1', created_at: '2026-01-01T00:00:00Z', bytes: 1 };
  await publish(store, 'ds_1', { 'a.txt': 'a' });
  await publish(store, 'ds_2', { 'a.txt': 'a' }, listing);
  for (const key of await keysUnder('datasets/index/')) await objects.remove(key);
  await publish(store, 'ds_3', { 'a.txt': 'a' }, listing);
  expect(await store.repairIndex(async () => listing, 0)).toBe(2);
  expect(await store.entries()).toHaveLength(3);
  for (const id of ['ds_1', 'ds_2']) expect(await store.delete(id)).toBe(true);
  expect((await store.entries()).map(({ id }) => id)).toEqual(['ds_3']);
  expect(await store.entries('key_1')).toEqual(await store.entries());
});

test('an invalid record is an error that names it', async () => {
  await objects.create('datasets/records/ds_1.json', '{"version": 1}');
  await expect(store.read('ds_1', 'a.txt')).rejects.toMatchObject({
    code: 'internal_error',
    message: expect.stringContaining('datasets/records/ds_1.json'),
  });
});

describe('a failing store', () => {
  test('reports a missing bucket', async () => {
    const noBucket = openS3Objects({ ...server.settings, bucket: 'no-such-bucket' });
    const missing = {
      code: 'storage_unavailable',
      message: expect.stringContaining('There is no bucket no-such-bucket.'),
    };
    await expect(noBucket.readWhole('key', 10)).rejects.toMatchObject(missing);
    await expect(noBucket.check()).rejects.toMatchObject(missing);
    noBucket.close();
    await expect(objects.check()).resolves.toBeUndefined();
  });

  test('is storage_unavailable, and works again once it is reachable', async () => {
    await publish(store, 'ds_1', { 'a.txt': 'a' });
    await server.pause();
    try {
      await expect(store.has('ds_1')).rejects.toMatchObject({ code: 'storage_unavailable' });
      await expect(publish(store, 'ds_2', { 'a.txt': 'a' })).rejects.toMatchObject({ code: 'storage_unavailable' });
    } finally {
      await server.resume();
    }
    expect(await store.has('ds_1')).toBe(true);
    expect(await store.list()).toEqual(['ds_1']);
    expect(await publish(store, 'ds_2', { 'a.txt': 'a' })).toBe(true);
  });
});
