import { mkdir, mkdtemp, readdir, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { buffer, text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type BundleStore, openBundleStore } from './index.js';

let root: string;
let store: BundleStore;

beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'lorasmith-storage-'));
  store = await openBundleStore({ root, kind: 'datasets' });
});
afterEach(() => rm(root, { recursive: true, force: true }));

async function publish(id: string, files: Record<string, string>): Promise<boolean> {
  const staging = await store.stage();
  for (const [name, content] of Object.entries(files)) await staging.write(name, [Buffer.from(content)]);
  return store.publish(staging, id);
}

describe('a bundle', () => {
  test('is not seen before it is published, then whole', async () => {
    const staging = await store.stage();
    const digest = await staging.write('data.jsonl', [Buffer.from('a'), Buffer.from('bc')]);
    expect(digest).toEqual({ sha256: 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad', bytes: 3 });
    expect(await store.list()).toEqual([]);
    expect(await store.publish(staging, 'ds_1')).toBe(true);
    expect(await store.list()).toEqual(['ds_1']);
    expect(await store.has('ds_1')).toBe(true);
    expect(await text(await store.read('ds_1', 'data.jsonl'))).toBe('abc');
    expect(await store.files('ds_1')).toMatchObject([{ name: 'data.jsonl', bytes: 3 }]);
    await staging.discard();
    expect(await store.has('ds_1')).toBe(true);
  });

  test('is never replaced', async () => {
    expect(await publish('ds_1', { 'a.txt': 'first' })).toBe(true);
    expect(await publish('ds_1', { 'a.txt': 'second' })).toBe(false);
    expect(await text(await store.read('ds_1', 'a.txt'))).toBe('first');
  });

  test('published by many at once is published by one', async () => {
    const outcomes = await Promise.all(Array.from({ length: 8 }, (_, n) => publish('ds_1', { 'a.txt': `${n}` })));
    expect(outcomes.filter(Boolean)).toHaveLength(1);
    expect(await text(await store.read('ds_1', 'a.txt'))).toBe(`${outcomes.indexOf(true)}`);
  });

  test('is read in ranges, both ends inclusive', async () => {
    await publish('ds_1', { 'a.txt': '0123456789' });
    expect((await buffer(await store.read('ds_1', 'a.txt', { start: 2, end: 4 }))).toString()).toBe('234');
  });

  test('that is deleted is gone, yet read to its end by who had opened it', async () => {
    const content = 'x'.repeat(3_000_000);
    await publish('ds_1', { 'a.txt': content });
    const opened = await store.read('ds_1', 'a.txt');
    expect(await store.delete('ds_1')).toBe(true);
    expect(await store.delete('ds_1')).toBe(false);
    await expect(store.read('ds_1', 'a.txt')).rejects.toMatchObject({ code: 'not_found' });
    expect(await text(opened)).toBe(content);
    expect(await readdir(path.join(root, '.staging'))).toEqual([]);
  });

  test('gives JSON, and says which file is broken', async () => {
    await publish('ds_1', { 'good.json': '{"a":1}', 'bad.json': '{"a":' });
    expect(await store.readJson('ds_1', 'good.json')).toEqual({ a: 1 });
    await expect(store.readJson('ds_1', 'bad.json')).rejects.toMatchObject({
      code: 'internal_error',
      message: expect.stringContaining('bad.json of ds_1'),
    });
  });
});

describe('a name that is a path', () => {
  test.each(['../secret', '..', '.', '', 'a/b', 'a\\b', '/etc/passwd', '%2e%2e', '.hidden', 'a\0b', 'x'.repeat(300)])(
    '%j reaches nothing',
    async (name) => {
      await writeFile(path.join(root, 'secret'), 'secret');
      await publish('ds_1', { 'a.txt': 'a' });
      await expect(store.read('ds_1', name)).rejects.toMatchObject({ code: 'not_found' });
      await expect(store.read(name, 'a.txt')).rejects.toMatchObject({ code: 'not_found' });
      expect(() => store.path(name, 'a.txt')).toThrowError(expect.objectContaining({ code: 'not_found' }));
      expect(await store.has(name)).toBe(false);
      expect(await store.delete(name)).toBe(false);
    },
  );

  test('nor is a link followed', async () => {
    await publish('ds_1', { 'a.txt': 'a' });
    await writeFile(path.join(root, 'secret'), 'secret');
    await symlink(path.join(root, 'secret'), path.join(root, 'datasets/ds_1/link'));
    await expect(store.read('ds_1', 'link')).rejects.toMatchObject({ code: 'not_found' });
    expect((await store.files('ds_1')).map(({ name }) => name)).toEqual(['a.txt']);
  });
});

describe('a staging', () => {
  test('whose source fails leaves nothing once discarded', async () => {
    const staging = await store.stage();
    async function* failing() {
      yield Buffer.from('some');
      throw new Error('the client went away');
    }
    await expect(staging.write('a.txt', failing())).rejects.toThrow('the client went away');
    await staging.discard();
    expect(await readdir(path.join(root, '.staging'))).toEqual([]);
  });

  test('with a folder in it is refused', async () => {
    const staging = await store.stage();
    await mkdir(path.join(staging.path, 'folder'));
    await expect(store.publish(staging, 'ds_1')).rejects.toThrow('folder is not a file');
    expect(await store.has('ds_1')).toBe(false);
  });

  test('is swept when nothing was written to it for long, and only of its own kind', async () => {
    const adapters = await openBundleStore({ root, kind: 'adapters' });
    const [old, fresh, other] = [await store.stage(), await store.stage(), await adapters.stage()];
    const longAgo = new Date(Date.now() - 3_600_000);
    for (const { path: folder } of [old, fresh, other]) await utimes(folder, longAgo, longAgo);
    // A large file that grows does not touch its folder's time: the file's own counts.
    await fresh.write('a.txt', [Buffer.from('a')]);
    await utimes(fresh.path, longAgo, longAgo);
    expect(await store.sweepStaging(60_000)).toBe(1);
    expect((await readdir(path.join(root, '.staging'))).sort()).toEqual(
      [fresh, other].map(({ path: folder }) => path.basename(folder)).sort(),
    );
  });
});
