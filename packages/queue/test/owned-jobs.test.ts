import { type JobId, type KeyId, newIdentifier, ProductError } from '@lorasmith/contracts';
import { beforeEach, expect, test } from 'vitest';
import type { JobStore } from '../src/index.js';
import { aJobSpec } from './a-job-spec.js';
import { store, useJobStore } from './real-job-store.js';

useJobStore();
let one: KeyId;
let other: KeyId;
beforeEach(() => {
  [one, other] = [newIdentifier('key'), newIdentifier('key')];
});

const create = async (owner: KeyId | null, more: { maxOfOwner?: number; maxWaiting?: number } = {}) =>
  (await store.createJob(aJobSpec(), { requestHash: 'h', owner, ...more })).job.id;
const ids = async (options: Parameters<JobStore['listJobs']>[0]) =>
  (await store.listJobs(options)).data.map(({ id }) => id);
const codeOf = (error: unknown) => (error instanceof ProductError ? error.code : error);

test('a job stores its owner', async () => {
  const id = await create(one);
  expect((await store.getJob(id))?.owner).toBe(one);
  expect(await store.ownerOf(id)).toBe(one);
  expect(await store.ownerOf(await create(null))).toBe(null);
  expect(await store.ownerOf('job_000000000000000000000000')).toBe(undefined);
});

test("an owner's list contains only that owner's jobs, page by page, of one status or all", async () => {
  const mine: JobId[] = [];
  for (let i = 0; i < 5; i++) {
    mine.unshift(await create(one));
    await create(other);
    await create(null);
  }
  expect(await ids({ owner: one })).toEqual(mine);
  expect(await ids({ owner: one, limit: 2, after: mine[1]! })).toEqual(mine.slice(2, 4));
  await store.requestCancel(mine[1]!);
  await store.requestCancel(mine[3]!);
  expect(await ids({ owner: one, status: 'cancelled' })).toEqual([mine[1], mine[3]]);
  expect(await ids({ owner: one, status: 'cancelled', limit: 1, after: mine[1]! })).toEqual([mine[3]]);
  expect(await store.listJobs({ owner: one, status: 'queued', limit: 3 })).toMatchObject({ has_more: false });
  expect(await ids({ owner: newIdentifier('key') })).toEqual([]);
  expect(await ids({})).toHaveLength(15);
  await store.deleteJob(mine[1]!);
  expect(await ids({ owner: one })).toEqual(mine.filter((_, i) => i !== 1));
});

test("another owner's job is refused as `after` of a list", async () => {
  await create(one);
  const theirs = await create(other);
  const absent = 'job_000000000000000000000000';
  const errors = await Promise.all(
    [theirs, absent].map((after) => store.listJobs({ owner: one, after }).catch((error: unknown) => error)),
  );
  for (const error of errors) expect(codeOf(error)).toBe('invalid_request');
  expect((errors[0] as Error).message.replace(theirs, absent)).toBe((errors[1] as Error).message);
});

test('the same idempotency key of two owners creates two jobs', async () => {
  const options = { idempotencyKey: 'k', requestHash: 'h' };
  const first = await store.createJob(aJobSpec(), { ...options, owner: one });
  const second = await store.createJob(aJobSpec(), { ...options, owner: other });
  const third = await store.createJob(aJobSpec(), options);
  expect([first, second, third].map(({ created }) => created)).toEqual([true, true, true]);
  expect((await store.createJob(aJobSpec(), { ...options, owner: one })).job.id).toBe(first.job.id);
  await store.requestCancel(first.job.id);
  await store.deleteJob(first.job.id);
  expect((await store.createJob(aJobSpec(), { ...options, owner: one })).created).toBe(true);
});

test('concurrent requests cannot exceed the limit of unfinished jobs of an owner', async () => {
  const sent = await Promise.allSettled(Array.from({ length: 20 }, () => create(one, { maxOfOwner: 3 })));
  const made = sent.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  expect(made).toHaveLength(3);
  const refusals = sent.flatMap((result) => (result.status === 'rejected' ? [codeOf(result.reason)] : []));
  expect(new Set(refusals)).toEqual(new Set(['quota_exceeded']));
  // Other owners are not affected, and a cancelled job no longer counts.
  await create(other, { maxOfOwner: 3 });
  await store.requestCancel(made[0]!);
  await create(one, { maxOfOwner: 3 });
  // A running job counts.
  const start = await store.attempts.start(made[1]!, 'worker');
  expect(start.outcome).toBe('started');
  expect(codeOf(await create(one, { maxOfOwner: 3 }).catch((error: unknown) => error))).toBe('quota_exceeded');
});

test('the limit of waiting jobs holds, and a repeated request still finds its job', async () => {
  const options = { idempotencyKey: 'k', requestHash: 'h', maxWaiting: 2 };
  const { job } = await store.createJob(aJobSpec(), options);
  await create(one, { maxWaiting: 2 });
  expect(codeOf(await create(null, { maxWaiting: 2 }).catch((error: unknown) => error))).toBe('queue_full');
  expect((await store.createJob(aJobSpec(), options)).job.id).toBe(job.id);
});
