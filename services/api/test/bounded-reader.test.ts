import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { KeyId } from '@lorasmith/contracts';
import { type BundleStore, openBundleStore } from '@lorasmith/storage';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { BoundedReader, type BoundedReading } from '../src/datasets/bounded-reader.js';

// Files that are read in real processes with the compiled package: run `npx tsc -b` before. A reading goes on while its content is not taken.

const [ONE, OTHER] = ['key_1', 'key_2'] as unknown as [KeyId, KeyId];
const FIXTURES = new URL('../../../packages/row-files/src/fixtures/', import.meta.url);
const READER = fileURLToPath(new URL('../dist/datasets/read-file-main.js', import.meta.url));

let root: string;
let store: BundleStore;
let reader: BoundedReader;
beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'lorasmith-reader-'));
  store = await openBundleStore({ root, kind: 'datasets' });
  reader = new BoundedReader({ file: READER, environment: { PATH: process.env.PATH } });
});
afterEach(() => rm(root, { recursive: true, force: true }));

/** Starts to read a file of 8,000 rows, more than the buffers between the processes hold. */
function read(key: KeyId | null, options: Partial<BoundedReading> = {}) {
  async function* chunks() {
    yield await readFile(new URL('level-3.zst', FIXTURES));
  }
  const { signal } = new AbortController();
  const limits = { maxRows: 1e6, maxBytes: 1e9 };
  const content = reader.read(chunks(), store, {
    form: 'zstd',
    columns: 'of-rows',
    key,
    signal,
    ...limits,
    ...options,
  });
  return { content, first: content.next() };
}

test('keys share the processes that read; a key that waits holds up no other', async () => {
  const first = read(ONE);
  await first.first;
  const second = read(ONE);
  const other = read(OTHER);
  await other.first;
  const order: string[] = [];
  const third = read(ONE);
  const last = read(OTHER);
  void second.first.then(() => order.push('second'));
  void third.first.then(() => order.push('third'));
  void last.first.then(() => order.push('last'));
  await other.content.return(undefined);
  await last.first;
  // Those of the first key wait for it, although others came later.
  expect(order).toEqual(['last']);
  await first.content.return(undefined);
  await second.first;
  await second.content.return(undefined);
  await third.first;
  expect(order).toEqual(['last', 'second', 'third']);
  await Promise.all([third, last].map(({ content }) => content.return(undefined)));
});

test('a reading, and the wait for one, end with their signal, and leave no files', async () => {
  const leaving = new AbortController();
  const { content, first } = read(ONE, { signal: leaving.signal });
  await first;
  const waiting = read(ONE, { signal: leaving.signal });
  leaving.abort(new Error('left'));
  await expect(waiting.first).rejects.toThrow('left');
  await expect(drained(content)).rejects.toThrow('left');
  expect(
    await readdir(root, { recursive: true }).then((all) => all.filter((name) => name.endsWith('uploaded'))),
  ).toEqual([]);
  // Their places are free again.
  const again = read(ONE);
  await again.first;
  expect(await drained(again.content)).toBeGreaterThan(100_000);
});

test('content beyond the limit is refused by the process that makes it', async () => {
  const { content, first } = read(null, { maxBytes: 10_000 });
  await expect(first.then(() => drained(content))).rejects.toMatchObject({ code: 'body_too_large' });
});

async function drained(content: AsyncIterable<Buffer>): Promise<number> {
  let bytes = 0;
  for await (const chunk of content) bytes += chunk.length;
  return bytes;
}
