import { EventEmitter, once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { KeyId } from '@lorasmith/contracts';
import { openBundleStore } from '@lorasmith/storage';
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest';
import { DatasetCatalog } from './dataset-catalog.js';
import { RowChecks } from './row-checks.js';

let root: string;

beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'lorasmith-catalog-'));
});
afterEach(() => rm(root, { recursive: true, force: true }));

// The compiled file, because a thread cannot run TypeScript.
const checks = new RowChecks(fileURLToPath(new URL('../../dist/datasets/check-thread.js', import.meta.url)));
afterAll(() => checks.close());

const noReader = {
  read: () => {
    throw new Error('it reads JSONL alone');
  },
};

async function* passed(chunks: AsyncIterable<Buffer>) {
  yield* chunks;
}

test('checking lines that have already arrived does not block the event loop', async () => {
  const store = await openBundleStore({ root, kind: 'datasets' });
  const catalog = new DatasetCatalog({
    store,
    limits: { maxBytes: 2 ** 30, maxLineBytes: 1_000, maxRows: 10 },
    reader: noReader,
    checks,
  });
  let turns = 0;
  const turn = () => {
    turns++;
    next = setImmediate(turn);
  };
  let next = setImmediate(turn);
  let turnsMeanwhile = 0;
  async function* chunks() {
    yield Buffer.from('x\n');
    const before = turns;
    for (let i = 0; i < 160; i++) yield Buffer.alloc(2 ** 15, ' \n');
    turnsMeanwhile = turns - before;
  }
  const { signal } = new AbortController();
  const source = { chunks: chunks(), declaredBytes: undefined, columns: undefined, signal, name: async () => null };
  await expect(
    catalog.add(source, { owner: null, key: null }, { metered: passed, checkMore: () => {} }),
  ).rejects.toMatchObject({
    code: 'invalid_dataset',
  });
  clearImmediate(next);
  expect(turnsMeanwhile).toBeGreaterThan(1);
});

test('few uploads have long rows of CSV at once, of a key and in all', async () => {
  const store = await openBundleStore({ root, kind: 'datasets' });
  const limits = { maxBytes: 2 ** 30, maxLineBytes: 2 ** 23, maxRows: 10 };
  const catalog = new DatasetCatalog({ store, limits, reader: noReader, checks });
  const { signal } = new AbortController();
  const quota = { metered: passed, checkMore: () => {} };
  const row = `a,${'b'.repeat(2 ** 20)}\n`;
  /** An upload that has sent a long row, and is ended by `end`. */
  const begin = async (key: string) => {
    const upload = new EventEmitter();
    const sent = once(upload, 'sent');
    async function* chunks() {
      yield Buffer.from('prompt,completion\n');
      yield Buffer.from(row);
      const ended = once(upload, 'end');
      upload.emit('sent');
      await ended;
    }
    const source = { chunks: chunks(), declaredBytes: undefined, columns: undefined, signal, name: async () => null };
    const added = catalog.add(source, { owner: null, key: key as KeyId }, quota);
    await Promise.race([sent, added.catch(() => {})]);
    return { added, end: () => upload.emit('end') };
  };
  const own = await Promise.all(['a', 'a', 'a', 'a'].map(begin));
  await expect((await begin('a')).added).rejects.toMatchObject({ code: 'quota_exceeded' });
  const others = await Promise.all(['b', 'c', 'd', 'e'].map(begin));
  await expect((await begin('f')).added).rejects.toMatchObject({ code: 'service_unavailable' });
  for (const { end } of [...own, ...others]) end();
  await Promise.all([...own, ...others].map(({ added }) => added));
  const last = await begin('f');
  last.end();
  expect((await last.added).dataset.rows).toBe(1);
});

test('a dataset that another api has deleted and stored again is as it is now', async () => {
  const limits = { maxBytes: 2 ** 20, maxLineBytes: 1_000, maxRows: 10 };
  const store = await openBundleStore({ root, kind: 'datasets' });
  const [one, other] = [0, 1].map(() => new DatasetCatalog({ store, limits, reader: noReader, checks })) as [
    DatasetCatalog,
    DatasetCatalog,
  ];
  const add = async (catalog: DatasetCatalog, name: string) => {
    async function* chunks() {
      yield Buffer.from('{"text":"a"}\n');
    }
    const { signal } = new AbortController();
    const source = { chunks: chunks(), declaredBytes: undefined, columns: undefined, signal, name: async () => name };
    return await catalog.add(source, { owner: null, key: null }, { metered: passed, checkMore: () => {} });
  };
  const { dataset: first } = await add(one, 'first');
  expect(await other.get(first.id)).toEqual(first);
  await one.delete(first.id);
  const { dataset: second, created } = await add(one, 'second');
  expect([second.id, created]).toEqual([first.id, true]);
  for (const catalog of [one, other]) {
    expect(await catalog.get(first.id)).toEqual(second);
    expect(await add(catalog, 'third')).toEqual({ dataset: second, created: false });
    expect(await catalog.ownerOf(first.id)).toBeNull();
  }
  await one.delete(first.id);
  for (const catalog of [one, other]) {
    await expect(catalog.get(first.id)).rejects.toMatchObject({ code: 'dataset_not_found' });
    expect(await catalog.ownerOf(first.id)).toBeUndefined();
  }
});
