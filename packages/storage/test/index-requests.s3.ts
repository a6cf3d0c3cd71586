import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { mapWithConcurrency } from '@lorasmith/concurrency';
import { expect, test } from 'vitest';
import { countRequests } from '../../../test/bench/measure-lists.mjs';
import { startRealS3 } from '../../../test/real-s3.js';
import { openBundleCache } from '../src/bundle-cache.js';
import { BundleIndex } from '../src/bundle-index.js';
import { type ListedRecord, ListedRecords } from '../src/listed-records.js';
import { openS3BundleStore, s3EntryNames } from '../src/s3/s3-bundle-store.js';
import { openS3Objects } from '../src/s3/s3-objects.js';
import { publish } from './bundle-store-suite.js';

const ADAPTERS = 10_000;
/** The newest, which are complete: the pages of this test. */
const COMPLETE = 50;
const LIMIT = 20;

test('a page of ten thousand takes a list request of the index and one of annotations, and reads its own records', async () => {
  const server = await startRealS3();
  const root = await mkdtemp(path.join(tmpdir(), 'lorasmith-s3-host-'));
  const objects = openS3Objects(server.settings);
  try {
    const cache = await openBundleCache({ root, maxBytes: 2 ** 20 });
    const store = await openS3BundleStore({ objects, cache, root, kind: 'adapters' });
    const recordOf = (number: number): ListedRecord => ({
      id: `ad_${String(number).padStart(24, '0')}`,
      owner: number % 2 === 0 ? 'key_1' : 'key_2',
      created_at: new Date(Date.UTC(2026, 0, 1) + number * 1_000).toISOString(),
      bytes: 7,
    });
    const index = new BundleIndex(s3EntryNames(objects, 'adapters/index/'));
    const numbers = [...Array(ADAPTERS).keys()];
    await mapWithConcurrency(numbers, 32, async (number) => {
      const record = recordOf(number);
      if (number < ADAPTERS - COMPLETE) await index.add(record.id, record);
      else await publish(store, record.id, { 'record.json': JSON.stringify(record) }, record);
    });
    const read = async (id: string) => (await store.readJson(id, 'record.json')) as ListedRecord;
    const lists = new ListedRecords({ store, what: 'adapter', read, annotate: (record) => record });
    const newest = numbers.toReversed().map((number) => recordOf(number));

    const first = await countRequests(() => lists.page({ limit: LIMIT }));
    expect(first.result.data).toEqual(newest.slice(0, LIMIT));
    // To read a file takes two requests: the record of the bundle says where it is.
    expect(first).toMatchObject({ lists: 2, others: 2 * (LIMIT + 1) });
    const second = await countRequests(() => lists.page({ limit: LIMIT, after: first.result.next! }));
    expect(second.result.data).toEqual(newest.slice(LIMIT, 2 * LIMIT));
    // The last one of the first page is read as it is now. Does the one that was read with it still exist?
    expect(second).toMatchObject({ lists: 2, others: 3 + 2 * LIMIT });
    const again = await countRequests(() => lists.page({ limit: LIMIT }));
    expect(again).toMatchObject({ result: first.result, lists: 2, others: LIMIT + 1 });
    const own = await countRequests(() => lists.page({ limit: LIMIT, owner: 'key_1' }));
    expect(own.result.data).toEqual(newest.filter(({ owner }) => owner === 'key_1').slice(0, LIMIT));
    expect(own.lists).toBe(2);

    const stored = await countRequests(() => lists.stored('key_2'));
    const half = ADAPTERS / 2;
    expect(stored).toMatchObject({
      result: { own: 7 * half, total: 14 * half, things: { own: half, total: ADAPTERS } },
      lists: ADAPTERS / 1_000,
      others: 0,
    });
    // In 16 parts.
    expect(await countRequests(() => lists.stored('key_2'))).toMatchObject({
      result: stored.result,
      lists: 16,
      others: 0,
    });
  } finally {
    objects.close();
    await server.stop();
    await rm(root, { recursive: true, force: true });
  }
});
