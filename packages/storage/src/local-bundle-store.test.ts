import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { describeBundleStore, publish } from '../test/bundle-store-suite.js';
import { BundleIndex } from './bundle-index.js';
import { type LocalBundleStore, openBundleStore } from './index.js';
import { localEntryNames } from './local-bundle-store.js';

let root: string;
let store: LocalBundleStore;

beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'lorasmith-storage-'));
  store = await openBundleStore({ root, kind: 'datasets' });
});
afterEach(() => rm(root, { recursive: true, force: true }));

describeBundleStore(() => ({
  root,
  store,
  index: new BundleIndex(localEntryNames(path.join(root, '.index/datasets'))),
  openOther: (kind) => openBundleStore({ root, kind }),
}));

test('a name that leaves the folder has no path', async () => {
  await writeFile(path.join(root, 'secret'), 'secret');
  expect(() => store.path('..', 'secret')).toThrowError(expect.objectContaining({ code: 'not_found' }));
  expect(() => store.path('ds_1', '../../secret')).toThrowError(expect.objectContaining({ code: 'not_found' }));
});

test('a link is not followed', async () => {
  await publish(store, 'ds_1', { 'a.txt': 'a' });
  await writeFile(path.join(root, 'secret'), 'secret');
  await symlink(path.join(root, 'secret'), path.join(root, 'datasets/ds_1/link'));
  await expect(store.read('ds_1', 'link')).rejects.toMatchObject({ code: 'not_found' });
  expect((await store.files('ds_1')).map(({ name }) => name)).toEqual(['a.txt']);
});

/** `/dev/shm` is another file system, so the file is copied. */
test.each([tmpdir(), ...(existsSync('/dev/shm') ? ['/dev/shm'] : [])])(
  'a file of %s is taken into a bundle',
  async (from) => {
    const folder = await mkdtemp(path.join(from, 'lorasmith-taken-'));
    try {
      const file = path.join(folder, 'made');
      await writeFile(file, 'abc');
      const staging = await store.stage();
      const sha256 = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad';
      expect(await staging.take('a.txt', file)).toEqual({ sha256, bytes: 3 });
      expect(existsSync(file)).toBe(false);
      expect(await readFile(path.join(staging.path, 'a.txt'), 'utf8')).toBe('abc');
      await expect(staging.take('../b.txt', file)).rejects.toThrow(/not a file name/);
    } finally {
      await rm(folder, { recursive: true });
    }
  },
);

test('a bundle that is published while another of its id is deleted keeps its entry', async () => {
  const listing = { owner: null, created_at: '2026-11-30T00:00:00.000Z', bytes: 1 };
  const republish = async (): Promise<void> => {
    while (!(await publish(store, 'ds_1', { 'a.txt': 'a' }, listing)));
  };
  await publish(store, 'ds_1', { 'a.txt': 'a' }, listing);
  for (let round = 0; round < 50; round++) {
    await Promise.all([store.delete('ds_1'), republish()]);
    expect((await store.entries()).map(({ id }) => id)).toEqual(['ds_1']);
  }
});

test('a damaged annotation, and files of others beside it, say nothing of their bundle', async () => {
  const of = { id: 'ds_1', created_at: new Date(1).toISOString() };
  await store.annotations.change(of, () => ({ name: 'one' }));
  const folder = path.join(root, '.annotations/datasets');
  const [name = ''] = await readdir(folder);
  await writeFile(path.join(folder, `${name}.bak`), '{"name":"a copy"}');
  const other = await openBundleStore({ root, kind: 'datasets' });
  expect(await other.annotations.get(of)).toEqual({ name: 'one' });
  expect(await (await other.annotations.lookup())(of)).toEqual({ name: 'one' });
  await writeFile(path.join(folder, name), '{"name":');
  const third = await openBundleStore({ root, kind: 'datasets' });
  expect(await third.annotations.get(of)).toBe(null);
  expect(await third.annotations.change(of, () => ({ name: 'two' }))).toEqual({ name: 'two' });
  expect(await third.annotations.get(of)).toEqual({ name: 'two' });
});
