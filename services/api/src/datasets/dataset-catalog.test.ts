import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { openBundleStore } from '@lorasmith/storage';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createDatasetCatalog } from './dataset-catalog.js';

let root: string;

beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'lorasmith-catalog-'));
});
afterEach(() => rm(root, { recursive: true, force: true }));

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
  const catalog = createDatasetCatalog({
    store,
    limits: { maxBytes: 2 ** 30, maxLineBytes: 1_000, maxRows: 10 },
    reader: noReader,
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
  const source = { chunks: chunks(), declaredBytes: undefined, columns: undefined, name: async () => null };
  await expect(catalog.add(source, null, { metered: passed, checkOneMore: () => {} })).rejects.toMatchObject({
    code: 'invalid_dataset',
  });
  clearImmediate(next);
  expect(turnsMeanwhile).toBeGreaterThan(1);
});
