import { type KeyId, newIdentifier } from '@lorasmith/contracts';
import { beforeEach, expect, test } from 'vitest';
import { aJobSpec } from './a-job-spec.js';
import { prefix, redis, store, useJobStore } from './real-job-store.js';

useJobStore();
let one: KeyId;
let other: KeyId;
beforeEach(() => {
  [one, other] = [newIdentifier('key'), newIdentifier('key')];
});

type Kept = { keptOfOwner?: number; keptInAll?: number; idempotencyKey?: string };
const create = async (owner: KeyId, kept: Kept = {}) =>
  (await store.createJob(aJobSpec(), { requestHash: 'h', owner, ...kept })).job.id;
async function createCancelled(owner: KeyId, kept: Kept = {}) {
  const id = await create(owner, kept);
  await store.requestCancel(id);
  return id;
}
const ids = async (owner: KeyId) => (await store.listJobs({ owner, limit: 100 })).data.map(({ id }) => id);
const keysOf = async () => (await redis.keys(`${prefix.replaceAll(/[{}]/g, '?')}job:*`)).length;

test('the newest ended jobs of an owner are stored, and older ones are removed with all their keys', async () => {
  const theirs = await createCancelled(other);
  const waiting = await create(one);
  const kept = { keptOfOwner: 3 };
  const ended: string[] = [];
  for (let i = 0; i < 8; i++) ended.unshift(await createCancelled(one, { ...kept, idempotencyKey: `k${i}` }));
  const newest = await create(one, kept);
  // An unfinished job is not removed, however old it is.
  expect(await ids(one)).toEqual([newest, ...ended.slice(0, 3), waiting]);
  expect(await ids(other)).toEqual([theirs]);
  // The records and events of six jobs.
  expect(await keysOf()).toBe(12);
  expect(await redis.zcard(`${prefix}jobs:cancelled`)).toBe(4);
  // The first idempotency key can be used again, the last one cannot.
  expect(await store.repeatedJob({ idempotencyKey: 'k0', requestHash: 'h', owner: one })).toBe(null);
  expect(await store.repeatedJob({ idempotencyKey: 'k7', requestHash: 'h', owner: one })).toMatchObject({
    id: ended[0],
  });
});

test('the limit over all owners holds too, and unfinished jobs do not count', async () => {
  const oldest = await createCancelled(one);
  const later = await createCancelled(other);
  for (let i = 0; i < 5; i++) await create(one, { keptInAll: 2 });
  expect(await ids(one)).toContain(oldest);
  await createCancelled(other);
  await create(other, { keptInAll: 2 });
  expect(await ids(one)).not.toContain(oldest);
  expect(await ids(other)).toContain(later);
});

test('ended variants of a sweep that goes on are kept beside these', async () => {
  const variants = [1, 2, 3].map((r) => ({
    values: { 'lora.r': r },
    spec: aJobSpec({ lora: { ...aJobSpec().lora, r } }),
    adapterBytes: 10,
    planned: { tokens: 100, seconds: 1, memory: null },
  }));
  const request = {
    job: { base_model: 'tiny-llama', dataset: aJobSpec().dataset },
    space: { 'lora.r': { values: [1, 2, 3] } },
  };
  const { sweep } = await store.sweeps.create(request, variants, { requestHash: 'h', owner: one });
  const [first, second] = sweep.variants.map(({ job }) => job);
  for (const job of [first!, second!]) await store.requestCancel(job);
  const ended = [await createCancelled(one), await createCancelled(one)];
  await create(one, { keptOfOwner: 1 });
  expect(await ids(one)).toEqual(expect.arrayContaining([first, second, ended[1]]));
  expect(await ids(one)).not.toContain(ended[0]);
  // Once the sweep has ended, they are as old as they are.
  await store.sweeps.finish(sweep.id);
  await create(one, { keptOfOwner: 1 });
  expect(await ids(one)).not.toContain(first);
});

test('a large excess is removed over several calls', async () => {
  for (let i = 0; i < 130; i++) await createCancelled(one);
  for (let i = 0; i < 2; i++) await create(one, { keptOfOwner: 5 });
  expect((await store.listJobs({ owner: one, status: 'cancelled', limit: 100 })).data).toHaveLength(5);
});
