import type { ComparisonResult, ComparisonRow, ComparisonWebhookBody } from '@lorasmith/contracts';
import { beforeEach, expect, test } from 'vitest';
import type { JobStore, NewComparison } from '../src/index.js';
import { jobKeys } from '../src/keys.js';
import { prefix, redis, store, useJobStore } from './real-job-store.js';

useJobStore();

const OWNER = 'key_0123456789abcdef01234567';
const OTHER = 'key_765432100123456789abcdef';
const DATASET = 'ds_0123456789abcdef01234567';

let comparisons: JobStore['comparisons'];
beforeEach(() => {
  comparisons = store.comparisons;
});

const side = (name: string) => ({
  ...{ name, base_model: name, adapter: null, answers: null, completion_format: 'chat' as const },
});
const create = (changes: Partial<NewComparison> = {}) =>
  comparisons.create({
    ...{ owner: OWNER, name: null, models: [side('one'), side('two')], dataset: DATASET, rows: 2 },
    ...{ judge: { model: 'judge', rubric: 'The better one.' }, max_tokens: 8, temperature: 0, seed: 0 },
    ...changes,
  });
const rowOf = (number: number): ComparisonRow => ({
  ...{ number, line: number + 10, prompt: 'user: hi', reference: null, answers: [null, null] },
  ...{ verdicts: [null, null], outcome: 'failed', error: 'no' },
});
const RESULT: ComparisonResult = {
  ...{ rows: 0, wins: 0, losses: 0, ties: 0, identical: 0, failed: 2, win_rate: null, interval: null },
  ...{ verdict: 'undecided', position_bias: null, order_decided: 0 },
  ...{ tokens: { answers: [0, 0], judge: 0 }, failures: [{ reason: 'no', rows: 2 }] },
};

/** The lease of a comparison ends, as if its process had died. */
const leaseEnds = (id: string) => redis.zadd(jobKeys(prefix).comparisonsDue, 1, id);

async function claimed() {
  const found = await comparisons.claim();
  if (found === null) throw new Error('nothing is due');
  return found;
}

test('a comparison is claimed once, keeps its rows for the next process, and ends once', async () => {
  const { id } = await create();
  const first = await claimed();
  expect(first).toMatchObject({ comparison: { id, status: 'queued' }, attempts: 1 });
  expect(await comparisons.claim()).toBeNull();
  const running = { ...first.comparison, status: 'running' as const };
  expect(await comparisons.write(id, first.token, { comparison: running })).toBe('done');
  await leaseEnds(id);
  const second = await claimed();
  expect(second).toMatchObject({ comparison: { id, status: 'running' }, attempts: 2 });
  expect(await comparisons.write(id, first.token, { row: rowOf(1) })).toBe('lost');
  expect(await comparisons.write(id, second.token, { row: rowOf(2) })).toBe('done');
  await leaseEnds(id);
  const third = await claimed();
  // A row was written in between.
  expect(third.attempts).toBe(1);
  expect(await comparisons.rows(id, [1, 2, 3])).toEqual([rowOf(2)]);
  const end = { ...third.comparison, status: 'succeeded' as const, result: RESULT };
  expect(await comparisons.end(end, second.token)).toBe('lost');
  expect(await comparisons.end(end, third.token)).toBe('done');
  expect(await comparisons.get(id)).toMatchObject({ status: 'succeeded', ended_at: expect.any(String) });
  expect(await comparisons.count()).toBe(0);
  expect(await comparisons.claim()).toBeNull();
});

test('its events are read, and its end is reported to the webhook of the service', async () => {
  await store.webhooks.sendAll(true);
  const { id } = await create();
  const { token, comparison } = await claimed();
  await comparisons.write(id, token, { event: { type: 'comparison-started', data: { rows: 2 } } });
  await comparisons.end({ ...comparison, status: 'succeeded', result: RESULT }, token);
  const { data } = await comparisons.readEvents(id);
  expect(data.map(({ type }) => type)).toEqual(['comparison-queued', 'comparison-started', 'comparison-succeeded']);
  expect(data.at(-1)).toMatchObject({ comparison: id, data: { result: RESULT } });
  const webhook = await store.webhooks.claim(1_000);
  const body = webhook?.body as ComparisonWebhookBody;
  expect(webhook).toMatchObject({ url: null, owner: OWNER });
  expect(body).toMatchObject({ type: 'comparison.succeeded', data: { id, result: RESULT } });
  expect(await store.webhooks.claim(1_000)).toBeNull();
  await expect(comparisons.readEvents(`cmp_${'0'.repeat(24)}`)).rejects.toMatchObject({ code: 'comparison_not_found' });
});

test('one that nobody works on is cancelled at once, and another when its process has noticed', async () => {
  const both = [await create(), await create()];
  // Of two of the same millisecond, either comes first.
  const { comparison: one } = await claimed();
  const two = both.find(({ id }) => id !== one.id)!;
  expect(await comparisons.cancel(two.id)).toMatchObject({ status: 'cancelled', ended_at: expect.any(String) });
  expect(await comparisons.cancel(two.id)).toMatchObject({ status: 'cancelled' });
  expect(await comparisons.claim()).toBeNull();
  expect(await comparisons.cancel(one.id)).toMatchObject({ status: 'queued', ended_at: null });
  await leaseEnds(one.id);
  const { token, comparison } = await claimed();
  expect(await comparisons.write(one.id, token)).toBe('cancel');
  expect(await comparisons.end({ ...comparison, status: 'cancelled' }, token)).toBe('done');
});

test('one that is given back is taken at once, and the attempt does not count', async () => {
  const { id } = await create();
  const first = await claimed();
  await comparisons.giveBack(id, first.token);
  expect(await claimed()).toMatchObject({ comparison: { id }, attempts: 1 });
});

test('it is deleted with its rows and events once it has ended', async () => {
  const { id } = await create();
  const { token, comparison } = await claimed();
  await comparisons.write(id, token, { row: rowOf(1) });
  await expect(comparisons.remove(id)).rejects.toMatchObject({ code: 'comparison_still_active' });
  await comparisons.end({ ...comparison, status: 'cancelled' }, token);
  await comparisons.remove(id);
  await expect(comparisons.remove(id)).rejects.toMatchObject({ code: 'comparison_not_found' });
  await expect(comparisons.get(id)).rejects.toMatchObject({ code: 'comparison_not_found' });
  expect((await redis.keys(`${prefix}*${id}*`)).filter((key) => !key.includes('webhook'))).toEqual([]);
});

test('lists have those of one key or of all, newest first, in pages', async () => {
  const ids: string[] = [];
  for (let i = 0; i < 3; i++) ids.unshift((await create()).id);
  const other = await create({ owner: OTHER });
  const first = await comparisons.list({ owner: OWNER, limit: 2 });
  expect(first).toMatchObject({ data: [{ id: ids[0] }, { id: ids[1] }], has_more: true, next: ids[1] });
  expect((await comparisons.list({ owner: OWNER, after: ids[1]! })).data.map(({ id }) => id)).toEqual([ids[2]]);
  expect((await comparisons.list()).data.map(({ id }) => id)).toEqual([other.id, ...ids]);
  await expect(comparisons.list({ after: `cmp_${'0'.repeat(24)}` })).rejects.toMatchObject({ code: 'invalid_request' });
});

test('a key has ten unfinished ones, and a hundred that are kept', async () => {
  for (let i = 0; i < 10; i++) await create();
  await expect(create()).rejects.toMatchObject({ code: 'quota_exceeded' });
  await create({ owner: OTHER });
  const [oldest] = (await comparisons.list({ owner: OWNER, limit: 100 })).data.toReversed();
  for (const { id } of (await comparisons.list({ owner: OWNER, limit: 100 })).data) await comparisons.cancel(id);
  for (let i = 0; i < 91; i++) await comparisons.cancel((await create()).id);
  expect((await comparisons.list({ owner: OWNER, limit: 101 })).data).toHaveLength(100);
  expect(await comparisons.ownerOf(oldest!.id)).toBeUndefined();
  expect(await comparisons.ownerOf((await create({ owner: null })).id)).toBeNull();
});
