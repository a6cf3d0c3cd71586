import { mkdir, readdir, readFile, utimes } from 'node:fs/promises';
import path from 'node:path';
import { buffer, text } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import { compareEntries } from '../src/bundle-entry.js';
import type { BundleIndex } from '../src/bundle-index.js';
import type { BundleStore, Listing } from '../src/index.js';

export interface StoreUnderTest {
  /** The data folder of this host. */
  root: string;
  store: BundleStore;
  /** The index of the store, to leave in it what a process leaves that dies. */
  index: BundleIndex;
  /** Another kind in the same store. */
  openOther(kind: string): Promise<BundleStore>;
}

export async function publish(
  store: BundleStore,
  id: string,
  files: Record<string, string>,
  listing?: Listing,
): Promise<boolean> {
  const staging = await store.stage();
  try {
    for (const [name, content] of Object.entries(files)) await staging.write(name, [Buffer.from(content)]);
    return await store.publish(staging, id, listing);
  } finally {
    await staging.discard();
  }
}

/** The contract of every {@link BundleStore}. @param get - Returns the stores of the current test */
export function describeBundleStore(get: () => StoreUnderTest): void {
  const stagings = async () => await readdir(path.join(get().root, '.staging'));

  describe('a bundle', () => {
    test('is invisible until it is published, and then complete', async () => {
      const { store } = get();
      const staging = await store.stage();
      const digest = await staging.write('data.jsonl', [Buffer.from('a'), Buffer.from('bc')]);
      expect(digest).toEqual({ sha256: 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad', bytes: 3 });
      expect(await store.list()).toEqual([]);
      expect(await store.has('ds_1')).toBe(false);
      expect(await store.publish(staging, 'ds_1')).toBe(true);
      expect(await store.list()).toEqual(['ds_1']);
      expect(await store.has('ds_1')).toBe(true);
      expect(await text(await store.read('ds_1', 'data.jsonl'))).toBe('abc');
      expect(await store.files('ds_1')).toMatchObject([{ name: 'data.jsonl', bytes: 3 }]);
      expect(await store.stat('ds_1', 'data.jsonl')).toMatchObject({ name: 'data.jsonl', bytes: 3 });
      await staging.discard();
      expect(await store.has('ds_1')).toBe(true);
    });

    test('can have empty files and many files, sorted by name', async () => {
      const { store } = get();
      const names = Array.from({ length: 12 }, (_, n) => `part-${21 - n}.txt`);
      await publish(store, 'ds_1', { 'empty.txt': '', ...Object.fromEntries(names.map((name) => [name, name])) });
      expect((await store.files('ds_1')).map(({ name }) => name)).toEqual(['empty.txt', ...names].sort());
      expect(await text(await store.read('ds_1', 'empty.txt'))).toBe('');
      expect(await text(await store.read('ds_1', 'part-15.txt'))).toBe('part-15.txt');
    });

    test('is never replaced', async () => {
      const { store } = get();
      expect(await publish(store, 'ds_1', { 'a.txt': 'first' })).toBe(true);
      expect(await publish(store, 'ds_1', { 'a.txt': 'second' })).toBe(false);
      expect(await text(await store.read('ds_1', 'a.txt'))).toBe('first');
    });

    test('is published by exactly one of many concurrent publishers', async () => {
      const { store } = get();
      const outcomes = await Promise.all(
        Array.from({ length: 8 }, (_, n) => publish(store, 'ds_1', { 'a.txt': `${n}` })),
      );
      expect(outcomes.filter(Boolean)).toHaveLength(1);
      expect(await text(await store.read('ds_1', 'a.txt'))).toBe(`${outcomes.indexOf(true)}`);
    });

    test('is read in ranges, both ends inclusive', async () => {
      const { store } = get();
      await publish(store, 'ds_1', { 'a.txt': '0123456789' });
      expect((await buffer(await store.read('ds_1', 'a.txt', { start: 2, end: 4 }))).toString()).toBe('234');
    });

    test('a bundle that is deleted is missing, but a stream that was opened before can be read completely', async () => {
      const { store } = get();
      const content = 'x'.repeat(3_000_000);
      await publish(store, 'ds_1', { 'a.txt': content });
      const opened = await store.read('ds_1', 'a.txt');
      const local = await store.localFile('ds_1', 'a.txt');
      expect(local).toEqual({ path: expect.stringMatching(/\/ds_1\/a\.txt$/), bytes: content.length });
      expect(await readFile(local!.path, 'utf8')).toBe(content);
      expect(await store.delete('ds_1')).toBe(true);
      expect(await store.delete('ds_1')).toBe(false);
      await expect(store.read('ds_1', 'a.txt')).rejects.toMatchObject({ code: 'not_found' });
      await expect(store.localFile('ds_1', 'a.txt')).rejects.toMatchObject({ code: 'not_found' });
      await expect(store.lease('ds_1')).rejects.toMatchObject({ code: 'not_found' });
      expect(await text(opened)).toBe(content);
      expect(await stagings()).toEqual([]);
      expect(await store.list()).toEqual([]);
    });

    test('can be published again with other bytes once it is deleted', async () => {
      const { store } = get();
      await publish(store, 'ds_1', { 'a.txt': 'first' });
      await store.delete('ds_1');
      expect(await publish(store, 'ds_1', { 'a.txt': 'second', 'b.txt': 'b' })).toBe(true);
      expect(await text(await store.read('ds_1', 'a.txt'))).toBe('second');
      const held = await store.lease('ds_1');
      expect(await readdir(held.folder)).toEqual(['a.txt', 'b.txt']);
      held.release();
    });

    test('is held as a local folder whose name is its id', async () => {
      const { store } = get();
      await publish(store, 'ds_1', { 'a.txt': 'a', 'b.txt': 'b' });
      const held = await store.lease('ds_1');
      expect(path.basename(held.folder)).toBe('ds_1');
      expect(await readdir(held.folder)).toEqual(['a.txt', 'b.txt']);
      expect(held.path('a.txt')).toBe(path.join(held.folder, 'a.txt'));
      expect(() => held.path('../ds_1/a.txt')).toThrowError(expect.objectContaining({ code: 'not_found' }));
      held.release();
      held.release();
    });

    test('returns JSON, and names a file that is broken', async () => {
      const { store } = get();
      await publish(store, 'ds_1', { 'good.json': '{"a":1}', 'bad.json': '{"a":' });
      expect(await store.readJson('ds_1', 'good.json')).toEqual({ a: 1 });
      await expect(store.readJson('ds_1', 'bad.json')).rejects.toMatchObject({
        code: 'internal_error',
        message: expect.stringContaining('bad.json of ds_1'),
      });
      await expect(store.readJson('ds_1', 'none.json')).rejects.toMatchObject({ code: 'not_found' });
    });

    test('is listed by the prefix of its id', async () => {
      const { store } = get();
      for (const id of ['job_1.b', 'job_1.a', 'job_2.a']) await publish(store, id, { 'a.txt': 'a' });
      expect(await store.list('job_1.')).toEqual(['job_1.a', 'job_1.b']);
      expect(await store.list('job_3')).toEqual([]);
      expect(await store.list()).toHaveLength(3);
    });

    test('a bundle of one kind does not exist in another', async () => {
      const { store, openOther } = get();
      const adapters = await openOther('adapters');
      await publish(store, 'ds_1', { 'a.txt': 'a' });
      expect(await adapters.list()).toEqual([]);
      expect(await adapters.has('ds_1')).toBe(false);
      expect(await adapters.delete('ds_1')).toBe(false);
      expect(await store.has('ds_1')).toBe(true);
    });
  });

  describe('the index', () => {
    const OWNER = 'key_1';
    const FILES = { 'a.txt': 'a' };
    const listingAt = (second: number, owner: string | null = null): Listing => ({
      owner,
      created_at: new Date(Date.UTC(2026, 0, 1, 0, 0, second)).toISOString(),
      bytes: 100 + second,
    });
    const ids = (entries: { id: string }[]) => entries.map(({ id }) => id);

    test('has listed bundles newest first, of all and of an owner, and no others', async () => {
      const { store, openOther } = get();
      for (const second of [2, 0, 3, 1]) {
        await publish(store, `ds_${second}`, FILES, listingAt(second, second % 2 === 0 ? null : OWNER));
      }
      await publish(store, 'ds_9', FILES);
      const adapters = await openOther('adapters');
      await publish(adapters, 'ad_1', FILES, listingAt(1));
      expect(ids(await store.entries())).toEqual(['ds_3', 'ds_2', 'ds_1', 'ds_0']);
      expect(ids(await store.entries(null))).toEqual(['ds_2', 'ds_0']);
      expect(ids(await store.entries('key_2'))).toEqual([]);
      const createdMs = Date.UTC(2026, 0, 1, 0, 0, 3);
      const newest = { id: 'ds_3', owner: OWNER, createdMs, bytes: 103 };
      expect(await store.newest({ owner: OWNER, limit: 1 })).toEqual([newest]);
      expect(ids(await store.newest({ limit: 2, after: newest }))).toEqual(['ds_2', 'ds_1']);
      expect(ids(await store.newest({ owner: OWNER, limit: 9, after: newest }))).toEqual(['ds_1']);
      expect(ids(await adapters.entries())).toEqual(['ad_1']);
    });

    test('orders bundles of one time by id, also across pages', async () => {
      const { store } = get();
      const names = ['ds_1', 'ds_1-a', 'ds_1.a', 'ds_1a', 'ds_2'];
      for (const id of names) await publish(store, id, FILES, listingAt(0));
      const all = await store.entries();
      expect(ids(all).sort()).toEqual([...names].sort());
      const pages: string[] = [];
      for (let after = all[0]; after !== undefined; ) {
        pages.push(after.id);
        [after] = await store.newest({ after, limit: 1 });
      }
      expect(pages).toEqual(ids(all));
      expect([...all].sort(compareEntries)).toEqual(all);
    });

    test('has one entry after many concurrent publishers of one bundle', async () => {
      const { store } = get();
      const publishers = Array.from({ length: 8 }, () => publish(store, 'ds_1', FILES, listingAt(1, OWNER)));
      expect((await Promise.all(publishers)).filter(Boolean)).toHaveLength(1);
      expect(await publish(store, 'ds_1', FILES, listingAt(2))).toBe(false);
      expect(ids(await store.entries())).toEqual(['ds_1']);
      expect(ids(await store.entries(OWNER))).toEqual(['ds_1']);
      expect(ids(await store.entries(null))).toEqual([]);
    });

    test('has all bundles of many concurrent publishers, and none that is deleted', async () => {
      const { store } = get();
      const names = Array.from({ length: 12 }, (_, n) => `ds_${String(n).padStart(2, '0')}`);
      await Promise.all(names.map((id, n) => publish(store, id, FILES, listingAt(-n, n < 6 ? OWNER : null))));
      expect(ids(await store.entries())).toEqual(names);
      await Promise.all(names.filter((_, n) => n % 2 === 0).map((id) => store.delete(id)));
      expect(ids(await store.entries())).toEqual(names.filter((_, n) => n % 2 === 1));
      expect(ids(await store.entries(OWNER))).toEqual(['ds_01', 'ds_03', 'ds_05']);
    });

    test('refuses a bundle that it could not list, and publishes nothing', async () => {
      const { store } = get();
      const wrong: Partial<Listing>[] = [{ created_at: 'some day' }, { bytes: -1 }, { bytes: 0.5 }, { owner: 'a~b' }];
      for (const change of wrong) {
        await expect(publish(store, 'ds_1', FILES, { ...listingAt(0), ...change })).rejects.toThrow('cannot be listed');
      }
      expect(await store.has('ds_1')).toBe(false);
      expect(await store.entries()).toEqual([]);
    });

    test('loses entries of processes that died, once they are old, and never that of a bundle', async () => {
      const { store, index } = get();
      await publish(store, 'ds_1', FILES, listingAt(1, OWNER));
      // One died before it published ds_0, one after it had deleted it, and one before it published ds_1 a second time.
      await index.add('ds_0', listingAt(0, OWNER));
      await index.add('ds_0', listingAt(2));
      await index.add('ds_1', listingAt(3, OWNER));
      const young = { ...listingAt(0), created_at: new Date().toISOString() };
      await index.add('ds_9', young);
      const read = (id: string) => Promise.resolve(id === 'ds_1' ? listingAt(1, OWNER) : null);
      expect(await store.repairIndex(read, 3_600_000)).toBe(3);
      expect(ids(await store.entries())).toEqual(['ds_9', 'ds_1']);
      expect(await store.entries(OWNER)).toMatchObject([{ id: 'ds_1', bytes: 101 }]);
      expect(await store.repairIndex(read, 3_600_000)).toBe(0);
    });

    test('is made again from the bundles', async () => {
      const { store, index } = get();
      for (const id of ['ds_1', 'ds_2']) await publish(store, id, FILES);
      await publish(store, 'ds_3', FILES, listingAt(3));
      await index.add('ds_2', listingAt(9, OWNER));
      const read = (id: string) => Promise.resolve(id === 'ds_1' ? null : listingAt(Number(id.slice(3))));
      expect(await store.repairIndex(read, 0)).toBe(0);
      // Two entries say that one of them is wrong.
      await index.add('ds_2', listingAt(8, OWNER));
      expect(await store.repairIndex(read, 0)).toBe(3);
      expect(ids(await store.entries(null))).toEqual(['ds_3', 'ds_2']);
      expect(ids(await store.entries(OWNER))).toEqual([]);
    });

    test('stays as it is where bundles cannot be read', async () => {
      const { store, index } = get();
      await publish(store, 'ds_1', FILES, listingAt(1));
      await index.add('ds_1', listingAt(2));
      expect(await store.repairIndex(async () => null, 0)).toBe(0);
      const unavailable = () => Promise.reject(new Error('the store is away'));
      await expect(store.repairIndex(unavailable, 0)).rejects.toThrow('the store is away');
      expect(await store.entries()).toHaveLength(2);
    });
  });

  describe('annotations', () => {
    const FILES = { 'data.jsonl': 'a', 'dataset.json': '{}' };
    const listingAt = (second: number): Listing => ({
      owner: null,
      created_at: new Date(Date.UTC(2026, 0, 1, 0, 0, second)).toISOString(),
      bytes: 1,
    });
    const at = (id: string, second = 1) => ({ id, ...listingAt(second) });
    const add = (by: number) => (value: unknown) => ({ sum: ((value as { sum: number } | null)?.sum ?? 0) + by });

    test('change while the files of their bundle stay as they are', async () => {
      const { store } = get();
      await publish(store, 'ds_1', FILES, listingAt(1));
      expect(await store.annotations.get(at('ds_1'))).toBe(null);
      expect(await store.annotations.change(at('ds_1'), () => ({ name: 'one' }))).toEqual({ name: 'one' });
      await store.annotations.change(at('ds_1'), (value) => ({ ...(value as object), tags: ['a'] }));
      expect(await store.annotations.get(at('ds_1'))).toEqual({ name: 'one', tags: ['a'] });
      const lookup = await store.annotations.lookup();
      expect(await lookup(at('ds_1'))).toEqual({ name: 'one', tags: ['a'] });
      expect(await store.annotations.all('ds_')).toEqual([{ id: 'ds_1', value: { name: 'one', tags: ['a'] } }]);
      expect(await store.annotations.all('ds_2')).toEqual([]);
      // Those of another bundle, or of one that was published under this id at another time.
      expect([await lookup(at('ds_10')), await lookup(at('ds_1', 2))]).toEqual([null, null]);
      expect((await store.files('ds_1')).map(({ name }) => name).sort()).toEqual(Object.keys(FILES).sort());
    });

    test('of many changes at the same time none is lost, through two stores of the same folder or bucket', async () => {
      const { store, openOther } = get();
      const other = await openOther('datasets');
      await publish(store, 'ds_1', FILES, listingAt(1));
      const { change } = store.annotations;
      await Promise.all(
        [1, 2, 3, 4, 5, 6].map((by) => (by % 2 === 0 ? change : other.annotations.change)(at('ds_1'), add(by))),
      );
      expect(await store.annotations.get(at('ds_1'))).toEqual({ sum: 21 });
      expect(await other.annotations.get(at('ds_1'))).toEqual({ sum: 21 });
    });

    test('end with their bundle, and those without one are removed by a repair', async () => {
      const { store } = get();
      await publish(store, 'ds_1', FILES, listingAt(1));
      await publish(store, 'ds_2', FILES, listingAt(1));
      for (const id of ['ds_1', 'ds_2']) await store.annotations.change(at(id), add(1));
      await store.delete('ds_1');
      await publish(store, 'ds_1', FILES, listingAt(1));
      expect(await store.annotations.get(at('ds_1'))).toBe(null);
      // By a process that read the bundle before it was deleted.
      await store.annotations.change(at('ds_3'), add(1));
      expect(await store.repairIndex(async () => null, 0)).toBe(1);
      expect(await store.annotations.get(at('ds_3'))).toBe(null);
      expect(await store.annotations.get(at('ds_2'))).toEqual({ sum: 1 });
    });
  });

  describe('a name that is a path', () => {
    test.each(['../secret', '..', '.', '', 'a/b', 'a\\b', '/etc/passwd', '%2e%2e', '.hidden', 'a\0b', 'x'.repeat(300)])(
      '%j reaches nothing',
      async (name) => {
        const { store } = get();
        await publish(store, 'ds_1', { 'a.txt': 'a' });
        for (const read of ['read', 'localFile'] as const) {
          await expect(store[read]('ds_1', name)).rejects.toMatchObject({ code: 'not_found' });
        }
        await expect(store.read(name, 'a.txt')).rejects.toMatchObject({ code: 'not_found' });
        await expect(store.lease(name)).rejects.toMatchObject({ code: 'not_found' });
        expect(await store.has(name)).toBe(false);
        expect(await store.delete(name)).toBe(false);
      },
    );
  });

  describe('a staging', () => {
    test('a staging whose source fails leaves no files once discarded', async () => {
      const { store } = get();
      const staging = await store.stage();
      async function* failing() {
        yield Buffer.from('some');
        throw new Error('the client went away');
      }
      await expect(staging.write('a.txt', failing())).rejects.toThrow('the client went away');
      await staging.discard();
      expect(await stagings()).toEqual([]);
    });

    test('a staging with a folder in it is refused', async () => {
      const { store } = get();
      const staging = await store.stage();
      await mkdir(path.join(staging.path, 'folder'));
      await expect(store.publish(staging, 'ds_1')).rejects.toThrow('folder is not a file');
      expect(await store.has('ds_1')).toBe(false);
    });

    test('is swept after a long time without a write, and only in its own kind', async () => {
      const { store, openOther } = get();
      const adapters = await openOther('adapters');
      const [old, fresh, other] = [await store.stage(), await store.stage(), await adapters.stage()];
      const longAgo = new Date(Date.now() - 3_600_000);
      for (const { path: folder } of [old, fresh, other]) await utimes(folder, longAgo, longAgo);
      // Writing to a file does not change the time of its folder, so the time of the file counts.
      await fresh.write('a.txt', [Buffer.from('a')]);
      await utimes(fresh.path, longAgo, longAgo);
      expect(await store.sweepStaging(60_000)).toBe(1);
      expect((await stagings()).sort()).toEqual([fresh, other].map(({ path: folder }) => path.basename(folder)).sort());
    });
  });
}
