import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ProductError } from '@lorasmith/contracts';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { publish } from '../test/bundle-store-suite.js';
import { replaced } from '../test/replaced.js';
import { BundleIndex } from './bundle-index.js';
import { type ListedRecord, ListedRecords, type LocalBundleStore, openBundleStore } from './index.js';
import { localEntryNames } from './local-bundle-store.js';

let root: string;
let store: LocalBundleStore;
let index: BundleIndex;
let read: string[];
let broken: string[];
let lists: ListedRecords<ListedRecord>;

beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'lorasmith-lists-'));
  store = await openBundleStore({ root, kind: 'things' });
  index = new BundleIndex(localEntryNames(path.join(root, '.index/things')));
  [read, broken] = [[], []];
  lists = listsOf(store);
});
afterEach(() => rm(root, { recursive: true, force: true }));

function listsOf(of: Pick<LocalBundleStore, 'has' | 'list' | 'newest' | 'entries' | 'readJson' | 'annotations'>) {
  return new ListedRecords<ListedRecord>({
    store: of,
    what: 'thing',
    async read(id) {
      read.push(id);
      return (await of.readJson(id, 'record.json')) as ListedRecord;
    },
    annotate: (record, annotation) => (annotation === null ? record : { ...record, ...(annotation as object) }),
    onBroken: (id) => broken.push(id),
  });
}

const recordOf = (number: number, owner: string | null = null, id = `th_${number}`): ListedRecord => ({
  ...{ id, owner, bytes: 10 * number },
  created_at: new Date(Date.UTC(2026, 0, 1, 0, 0, number)).toISOString(),
});
async function add(record: ListedRecord, content = JSON.stringify(record)): Promise<void> {
  await publish(store, record.id, { 'record.json': content }, record);
}
const numbersOf = (data: ListedRecord[]) => data.map(({ id }) => Number(id.slice(3)));
async function pages(options: Omit<Parameters<typeof lists.page>[0], 'after'>): Promise<number[][]> {
  const all: number[][] = [];
  for (let after: string | undefined; ; ) {
    const page = await lists.page({ ...options, after });
    all.push(numbersOf(page.data));
    if (!page.has_more) return all;
    after = page.next!;
  }
}

test('records are listed in pages, newest or oldest first, of all, of an owner or of nobody', async () => {
  for (const number of [4, 1, 6, 3, 5, 2]) await add(recordOf(number, number % 2 === 0 ? 'key_1' : null));
  expect(await pages({ limit: 4 })).toEqual([
    [6, 5, 4, 3],
    [2, 1],
  ]);
  expect(await pages({ limit: 2, owner: 'key_1' })).toEqual([[6, 4], [2]]);
  expect(await pages({ limit: 3, owner: null })).toEqual([[5, 3, 1]]);
  expect(await pages({ limit: 2, owner: 'key_2' })).toEqual([[]]);
  for (const owner of [undefined, 'key_1'] as const) {
    const all = (await pages({ limit: 6, owner })).flat();
    for (const limit of [1, 2, 3, 5, 6]) {
      expect((await pages({ limit, owner })).flat()).toEqual(all);
      expect((await pages({ limit, owner, order: 'asc' })).flat()).toEqual(all.toReversed());
    }
  }
});

test('a search finds among all records, counts them, and looks only at entries that match', async () => {
  for (const number of [4, 1, 6, 3, 5, 2]) await add(recordOf(number, number % 2 === 0 ? 'key_1' : null));
  const search = async (options: Partial<Parameters<typeof lists.search>[0]>) => {
    const page = await lists.search({ limit: 2, isFound: () => true, ...options });
    return [numbersOf(page.data), page.total, page.next];
  };
  expect(await search({})).toEqual([[6, 5], 6, 'th_5']);
  const isFound = ({ bytes }: ListedRecord) => bytes >= 30;
  expect(await search({ isFound })).toEqual([[6, 5], 4, 'th_5']);
  expect(await search({ isFound, after: 'th_5' })).toEqual([[4, 3], 4, null]);
  // The last one of a page may be found no more.
  expect(await search({ isFound: ({ bytes }) => bytes < 30, after: 'th_3' })).toEqual([[2, 1], 2, null]);
  expect(await search({ isFound, owner: 'key_1' })).toEqual([[6, 4], 2, null]);
  expect([await lists.count(), await lists.count('key_1'), await lists.count(null)]).toEqual([6, 3, 3]);
  await store.delete('th_6');
  expect(await search({ isFound })).toEqual([[5, 4], 3, 'th_4']);
  lists = listsOf(store);
  read = [];
  expect(await search({ matches: ({ id }) => id === 'th_2' })).toEqual([[2], 1, null]);
  expect(read).toEqual(['th_2']);
});

test('a search is sorted by a value with the annotations, in pages of which each begins behind the last one', async () => {
  // Enough for several batches, with values that are equal, missing and numbers in texts.
  const COUNT = 600;
  for (let number = 0; number < COUNT; number++) await add(recordOf(number, number % 2 === 0 ? 'key_1' : null));
  const nameOf = (number: number) => (number % 10 === 0 ? null : `Run ${number % 7}`);
  for (const number of [3, 14]) await lists.change(`th_${number}`, () => ({ name: 'run 10' }));
  const sortBy = (record: ListedRecord) => (record as { name?: string }).name ?? nameOf(Number(record.id.slice(3)));
  const all = async (options: Omit<Parameters<typeof lists.search>[0], 'limit' | 'after'>) => {
    const found: number[] = [];
    for (let after: string | undefined; ; ) {
      const page = await lists.search({ limit: 90, after, ...options });
      found.push(...numbersOf(page.data));
      if (!page.has_more) return { found, total: page.total };
      after = page.next!;
    }
  };
  for (const order of ['asc', 'desc'] as const) {
    const { found, total } = await all({ sortBy, order });
    expect([total, new Set(found).size]).toEqual([COUNT, COUNT]);
    const named = found.slice(0, -60);
    // Of equal ones the newest is first, and what has no name is last, in both orders.
    expect(found.slice(-60)).toEqual(Array.from({ length: 60 }, (_, index) => 590 - 10 * index));
    const tens = order === 'asc' ? named.slice(-2) : named.slice(0, 2);
    expect(tens).toEqual([14, 3]);
    const first = named.filter((number) => number % 7 === 1);
    expect(first).toEqual(first.toSorted((one, other) => other - one));
    expect(named.indexOf(1) < named.indexOf(2)).toBe(order === 'asc');
  }
  const filtered = await all({
    isFound: ({ bytes }) => bytes < 100,
    owner: 'key_1',
    order: 'asc',
    sortBy: ({ bytes }) => bytes,
  });
  expect(filtered).toEqual({ found: [0, 2, 4, 6, 8], total: 5 });
  const oldest = await all({ isFound: ({ bytes }) => bytes < 50, order: 'asc' });
  expect(oldest).toEqual({ found: [0, 1, 2, 3, 4], total: 5 });
  const { data } = await lists.search({ limit: 2, order: 'asc' });
  expect(numbersOf(data)).toEqual([0, 1]);
});

test('lists and searches have the annotations as they are, also those of another process', async () => {
  for (const number of [1, 2, 3]) await add(recordOf(number));
  const other = await openBundleStore({ root, kind: 'things' });
  expect(await lists.change('th_2', () => ({ name: 'two' }))).toEqual({ ...recordOf(2), name: 'two' });
  await other.annotations.change(recordOf(3), () => ({ name: 'three' }));
  const named = (record: ListedRecord) => (record as { name?: string }).name;
  expect((await lists.page({ limit: 3 })).data.map(named)).toEqual(['three', 'two', undefined]);
  await other.annotations.change(recordOf(2), () => ({ name: 'zwei' }));
  expect((await lists.search({ limit: 3, isFound: (record) => named(record) === 'zwei' })).total).toBe(1);
  expect(await lists.annotated('th_2')).toMatchObject({ name: 'zwei' });
  expect(await lists.current('th_2')).toEqual(recordOf(2));
  await expect(lists.change('th_9', () => ({}))).rejects.toMatchObject({ code: 'not_found' });
});

test('a page reads its own records and the next one, once, and the last one of the page before', async () => {
  for (let number = 0; number < 20; number++) await add(recordOf(number));
  const { next } = await lists.page({ limit: 3 });
  expect(read.sort()).toEqual(['th_16', 'th_17', 'th_18', 'th_19']);
  await lists.page({ limit: 3 });
  await lists.page({ limit: 2, after: next! });
  expect(read).toHaveLength(7);
  expect(await lists.stored(null)).toEqual({ own: 1_900, total: 1_900, things: { own: 20, total: 20 } });
  expect(read).toHaveLength(7);
});

test('pages that are read while things are added and deleted have each of the others once', async () => {
  for (let number = 10; number < 20; number++) await add(recordOf(number));
  const seen: number[] = [];
  let added = 20;
  for (let after: string | undefined; ; ) {
    const page = await lists.page({ limit: 2, after });
    seen.push(...numbersOf(page.data));
    if (!page.has_more) break;
    after = page.next!;
    await add(recordOf(added++));
    await add(recordOf(added - 20));
    // One that has been listed, and one that would have been.
    await store.delete(page.data[0]!.id);
    await store.delete(`th_${Number(after.slice(3)) - 1}`);
  }
  // 17, 14 and 11 were deleted before their page. 0, 1 and so on were added, and are older than all.
  expect(seen.filter((number) => number >= 10)).toEqual([19, 18, 16, 15, 13, 12, 10]);
  await expect(lists.page({ limit: 2, after: 'th_17' })).rejects.toMatchObject({ code: 'invalid_request' });
});

test('the last thing of a page must exist, and be visible, for the next page', async () => {
  await add(recordOf(1, 'key_1'));
  const refused = { code: 'invalid_request', param: 'after', message: expect.stringContaining('no thing "th_1"') };
  await expect(lists.page({ limit: 1, after: 'th_1', owner: 'key_2' })).rejects.toMatchObject(refused);
  await expect(lists.page({ limit: 1, after: 'th_1', owner: null })).rejects.toMatchObject(refused);
  expect((await lists.page({ limit: 1, after: 'th_1' })).data).toEqual([]);
  await store.delete('th_1');
  await expect(lists.page({ limit: 1, after: 'th_1' })).rejects.toMatchObject(refused);
  await expect(lists.page({ limit: 1, after: '../x' })).rejects.toMatchObject({ code: 'invalid_request' });
});

test('entries of processes that died are not listed, and count once', async () => {
  for (const number of [1, 2, 3]) await add(recordOf(number));
  await index.add('th_2', recordOf(7));
  await index.add('th_2', recordOf(0));
  await index.add('th_9', { ...recordOf(9), bytes: 1 });
  for (const limit of [1, 2, 3]) expect((await pages({ limit })).flat()).toEqual([3, 2, 1]);
  expect((await pages({ limit: 2, order: 'asc' })).flat()).toEqual([1, 2, 3]);
  expect((await lists.stored(null)).things).toEqual({ own: 4, total: 4 });
});

test('a thing that is published again under its id is listed as it is now', async () => {
  await add(recordOf(1, 'key_1'));
  await add(recordOf(2));
  expect((await pages({ limit: 3 })).flat()).toEqual([2, 1]);
  // By another process.
  await store.delete('th_1');
  expect((await pages({ limit: 3 })).flat()).toEqual([2]);
  await add({ ...recordOf(5, 'key_1', 'th_1'), bytes: 1 });
  const { data } = await lists.page({ limit: 3 });
  expect(data).toEqual([{ ...recordOf(5, 'key_1', 'th_1'), bytes: 1 }, recordOf(2)]);
  expect(await lists.stored('key_1')).toEqual({ own: 1, total: 21, things: { own: 1, total: 2 } });
});

test('a page begins after the place that its last thing has now', async () => {
  for (const number of [1, 2, 3, 4]) await add(recordOf(number));
  await lists.page({ limit: 4 });
  // By another process, which has published the oldest one again.
  await store.delete('th_1');
  await add(recordOf(9, null, 'th_1'));
  expect(numbersOf((await lists.page({ limit: 4, after: 'th_1' })).data)).toEqual([4, 3, 2]);
  expect(await lists.current('th_1')).toEqual(recordOf(9, null, 'th_1'));
  await store.delete('th_1');
  await expect(lists.current('th_1')).rejects.toMatchObject({ code: 'not_found' });
});

test('a broken record is omitted and reported once; a store that does not answer is an error', async () => {
  for (const number of [1, 2, 3]) await add(recordOf(number), number === 2 ? '{' : undefined);
  for (let round = 0; round < 2; round++) expect(await pages({ limit: 1 })).toEqual([[3], [1]]);
  expect(broken).toEqual(['th_2']);
  const unavailable = new ProductError('storage_unavailable', 'The store does not answer.');
  const away = listsOf(replaced(store, { readJson: () => Promise.reject(unavailable) }));
  await expect(away.page({ limit: 1 })).rejects.toBe(unavailable);
  expect(broken).toEqual(['th_2']);
});
