import { describe, expect, test } from 'vitest';
import { type CreateJobOptions, jobKeys } from '../src/index.js';
import { aJobSpec } from './a-job-spec.js';
import { prefix, queue, redis, store, useJobStore } from './real-job-store.js';

useJobStore('deletion');

const spec = aJobSpec();
const create = async (options: Partial<CreateJobOptions> = {}) =>
  (await store.createJob(spec, { requestHash: 'h', ...options })).job;

describe('a dataset that is being deleted', () => {
  test('gets no new jobs until it is stored again', async () => {
    expect(await store.datasets.beginDeletion(spec.dataset)).toEqual([]);
    await expect(create()).rejects.toMatchObject({ code: 'dataset_not_found', param: 'dataset' });
    expect((await store.listJobs()).data).toEqual([]);
    await store.datasets.allow(spec.dataset);
    expect((await create()).status).toBe('queued');
  });

  test('is allowed again by itself, should who deletes it die', async () => {
    await store.datasets.beginDeletion(spec.dataset);
    const seconds = await redis.ttl(jobKeys(prefix).datasetDeletion(spec.dataset));
    expect(seconds).toBeGreaterThan(0);
    expect(seconds).toBeLessThanOrEqual(60);
  });

  test('is not, while unfinished jobs read it', async () => {
    const job = await create();
    expect(await store.datasets.beginDeletion(spec.dataset)).toEqual([job.id]);
    expect((await create()).status).toBe('queued');
  });

  test('is not read by a job that is resumed, but a checkpoint can be published without it', async () => {
    const job = await create();
    await store.requestCancel(job.id);
    await store.datasets.beginDeletion(spec.dataset);
    await expect(store.resumeJob(job.id)).rejects.toMatchObject({ code: 'dataset_not_found' });
    expect((await store.getJob(job.id))!.status).toBe('cancelled');
    const publishing = await create({ task: { kind: 'publish-checkpoint', checkpoint: { job: job.id, step: 3 } } });
    expect(publishing.status).toBe('queued');
    await store.requestCancel(publishing.id);
    expect((await store.resumeJob(publishing.id)).status).toBe('queued');
  });

  test('whatever comes first: there is never a job of a dataset that is deleted', async () => {
    const outcomes = new Set<string>();
    for (let attempt = 0; attempt < 40; attempt++) {
      const own = aJobSpec({ dataset: `ds_${String(attempt).padStart(24, '0')}` });
      const creating = () =>
        store.createJob(own, { requestHash: 'h' }).then(
          () => 'made',
          (error: { code: string }) => error.code,
        );
      const deleting = () => store.datasets.beginDeletion(own.dataset);
      const [first, users, second] = await Promise.all(
        attempt % 2 === 0
          ? ([creating(), deleting(), creating()] as const)
          : ([creating(), deleting(), Promise.resolve('none')] as const),
      );
      const active = await store.datasets.active(own.dataset);
      const isDeleted = users.length === 0;
      expect(active.length > 0).toBe(!isDeleted);
      for (const outcome of [first, second]) outcomes.add(outcome);
      if (isDeleted) expect([first, second]).not.toContain('made');
    }
    expect(outcomes).toContain('made');
  });
});

describe('the job that a request made before', () => {
  const idempotencyKey = 'once';

  test('is found by its key and the digest of its request, and is not created again', async () => {
    expect(await store.repeatedJob({ idempotencyKey, requestHash: 'h' })).toBeNull();
    const job = await create({ idempotencyKey });
    expect(await store.repeatedJob({ idempotencyKey, requestHash: 'h' })).toEqual(job);
    expect(await store.repeatedJob({ idempotencyKey: 'another', requestHash: 'h' })).toBeNull();
    const conflict = store.repeatedJob({ idempotencyKey, requestHash: 'other' });
    await expect(conflict).rejects.toMatchObject({ code: 'idempotency_conflict' });
  });

  test("is its owner's", async () => {
    const owner = `key_${'0'.repeat(24)}`;
    const job = await create({ idempotencyKey, owner });
    expect(await store.repeatedJob({ idempotencyKey, requestHash: 'h' })).toBeNull();
    expect(await store.repeatedJob({ idempotencyKey, requestHash: 'h', owner })).toEqual(job);
  });

  test('is queued, should the first request have died before that', async () => {
    const job = await create({ idempotencyKey });
    await queue.remove((await queue.getWaiting())[0]!.id!);
    expect(await queue.getWaitingCount()).toBe(0);
    await store.repeatedJob({ idempotencyKey, requestHash: 'h' });
    expect((await queue.getWaiting()).map(({ id }) => id)).toEqual([expect.stringContaining(job.id)]);
  });

  test('is none once it is deleted', async () => {
    const job = await create({ idempotencyKey });
    await store.requestCancel(job.id);
    await store.deleteJob(job.id);
    expect(await store.repeatedJob({ idempotencyKey, requestHash: 'h' })).toBeNull();
  });
});
