import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { type LocalBundleStore, openBundleStore } from '@lorasmith/storage';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { locateParts, openParts } from './download-content.js';

let root: string;
let store: LocalBundleStore;
const PARTS = [Buffer.from('head'), { name: 'a', start: 1, end: 2 }, { name: 'b', start: 0, end: 0 }];

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'download-parts-'));
  store = await openBundleStore({ root, kind: 'adapters' });
  const staging = await store.stage();
  for (const name of ['a', 'b']) await staging.write(name, [Buffer.from(`${name}123`)]);
  await store.publish(staging, 'one');
});
afterEach(() => rm(root, { recursive: true }));

const openFiles = async () => (await readdir('/proc/self/fd')).length;

test('parts are read in their order, even if the bundle is deleted meanwhile', async () => {
  const stream = await openParts(store, 'one', PARTS);
  await store.delete('one');
  expect((await buffer(stream)).toString()).toBe('head12b');
  expect((await buffer(await openParts(store, 'one', []))).length).toBe(0);
});

test('open files are closed if the reader stops or another file cannot be opened', async () => {
  const before = await openFiles();
  const stream = await openParts(store, 'one', PARTS);
  expect(await openFiles()).toBe(before + 2);
  stream.destroy();
  await once(stream, 'close');
  await expect.poll(openFiles).toBe(before);
  await rm(store.path('one', 'b'));
  await expect(openParts(store, 'one', PARTS)).rejects.toMatchObject({ code: 'not_found' });
  await expect.poll(openFiles).toBe(before);
});

test('parts are located below the data folder', async () => {
  expect(await locateParts(store, 'one', PARTS, root)).toEqual([
    { content: Buffer.from('head').toString('base64') },
    { file: 'adapters/one/a', fileBytes: 4, start: 1, end: 2 },
    { file: 'adapters/one/b', fileBytes: 4, start: 0, end: 0 },
  ]);
  const nothing = locateParts(store, 'none', PARTS, root);
  await expect(nothing).rejects.toMatchObject({ code: 'not_found' });
});
