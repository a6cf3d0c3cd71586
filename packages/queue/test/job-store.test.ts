import { JobEvent as JobEventSchema, Job as JobSchema, type NewJobEvent, ProductError } from '@lorasmith/contracts';
import { Redis } from 'ioredis';
import { Value } from 'typebox/value';
import { describe, expect, test } from 'vitest';
import { absentRedisUrl, startOwnRedis } from '../../../test/real-redis.js';
import { createJobStore, type JobAttempt, jobKeys } from '../src/index.js';
import { aJobSpec } from './a-job-spec.js';
import { prefix, queue, redis, server, store, useJobStore } from './real-job-store.js';

useJobStore();

const created = async (changes = {}) => (await store.createJob(aJobSpec(changes), { requestHash: 'h' })).job;

async function started(id: string): Promise<JobAttempt> {
  const start = await store.attempts.start(id, 'worker-1');
  if (start.outcome !== 'started') throw new Error(`not started: ${start.reason}`);
  return start.attempt;
}

const eventTypes = async (id: string) => (await store.readEvents(id, { limit: 1000 })).data.map(({ type }) => type);
const codeOf = (error: unknown) => (error instanceof ProductError ? error.code : error);

const step = (number: number): NewJobEvent => ({
  type: 'step-finished',
  data: {
    step: number,
    total_steps: 100,
    epoch: number / 10,
    loss: 2.5,
    accuracy: 0.5,
    learning_rate: 1e-4,
    grad_norm: 0.5,
    tokens_per_second: 100.25,
    seconds_left: 9,
  },
});

describe('createJob', () => {
  test('records, lists and queues the job and appends its first event', async () => {
    const { job, created: isNew } = await store.createJob(aJobSpec({ metadata: {} }), { requestHash: 'h' });
    expect(isNew).toBe(true);
    expect(Value.Check(JobSchema, job)).toBe(true);
    expect(job).toMatchObject({ status: 'queued', attempts: 0, report: null, adapter: null, started_at: null });
    expect(job.training).toEqual(aJobSpec().training);
    expect(await store.getJob(job.id)).toEqual(job);
    expect(await store.inputs.active(job.dataset)).toEqual([job.id]);
    expect(await queue.getJobState(job.id)).toBe('waiting');
    const { data } = await store.readEvents(job.id);
    expect(data.map(({ type }) => type)).toEqual(['job-queued']);
    expect(Value.Check(JobEventSchema, data[0])).toBe(true);
  });

  test('a record of another version is refused', async () => {
    const { id } = await created();
    await redis.hset(jobKeys(prefix).job(id), 'version', 2);
    const error = { code: 'unsupported_version', message: expect.stringContaining(`${id} has version 2`) };
    await expect(store.getJob(id)).rejects.toMatchObject(error);
    await expect(store.listJobs()).rejects.toMatchObject(error);
  });

  test('concurrent requests with the same idempotency key create one job', async () => {
    const options = { idempotencyKey: 'a key: with/anything', requestHash: 'one' };
    const results = await Promise.all(Array.from({ length: 8 }, () => store.createJob(aJobSpec(), options)));
    expect(results.filter(({ created: isNew }) => isNew)).toHaveLength(1);
    expect(new Set(results.map(({ job }) => job.id)).size).toBe(1);
    expect((await store.listJobs()).data).toHaveLength(1);
    expect(await queue.getWaitingCount()).toBe(1);
  });

  test('the same key with another request is refused and writes nothing', async () => {
    await store.createJob(aJobSpec(), { idempotencyKey: 'k', requestHash: 'one' });
    const again = store.createJob(aJobSpec(), { idempotencyKey: 'k', requestHash: 'two' });
    expect(await again.catch(codeOf)).toBe('idempotency_conflict');
    expect((await store.listJobs()).data).toHaveLength(1);
  });

  test('a key can be used again once its job is deleted', async () => {
    const { job } = await store.createJob(aJobSpec(), { idempotencyKey: 'k', requestHash: 'one' });
    await store.requestCancel(job.id);
    await store.deleteJob(job.id);
    expect((await store.createJob(aJobSpec(), { idempotencyKey: 'k', requestHash: 'two' })).created).toBe(true);
  });

  test('reconcile queues, once, a job that was recorded but not queued', async () => {
    const job = await created();
    await queue.remove(job.id);
    expect(await queue.getJobState(job.id)).toBe('unknown');
    const [first, second] = await Promise.all([store.reconcile(), store.reconcile()]);
    expect([...first.requeued, ...second.requeued]).toContain(job.id);
    expect(await queue.getJobState(job.id)).toBe('waiting');
    expect(await queue.getWaitingCount()).toBe(1);
    expect(await store.reconcile()).toEqual({ requeued: [], ended: [] });
  });

  test('a repeated request queues the job if the first request could not', async () => {
    const options = { idempotencyKey: 'k', requestHash: 'one' };
    const { job } = await store.createJob(aJobSpec(), options);
    await queue.remove(job.id);
    await store.createJob(aJobSpec(), options);
    expect(await queue.getJobState(job.id)).toBe('waiting');
  });

  test('every key has the prefix', async () => {
    const alone = await startOwnRedis();
    const redis = new Redis(alone.url, { maxRetriesPerRequest: null });
    const store = createJobStore({ redis, prefix });
    const { job } = await store.createJob(aJobSpec(), { requestHash: 'h' });
    expect((await store.attempts.start(job.id, 'worker-1')).outcome).toBe('started');
    const keys = await redis.keys('*');
    expect(keys.length).toBeGreaterThan(0);
    expect(keys.filter((key) => !key.startsWith(prefix))).toEqual([]);
    await store.close();
    await redis.quit();
    await alone.stop();
  });
});

describe('listJobs', () => {
  test('returns the newest first, page by page, each job once', async () => {
    const ids: string[] = [];
    for (let i = 0; i < 5; i++) ids.unshift((await created()).id);
    const first = await store.listJobs({ limit: 2 });
    const second = await store.listJobs({ limit: 2, after: first.next ?? '' });
    const third = await store.listJobs({ limit: 2, after: second.next ?? '' });
    expect([first, second, third].flatMap(({ data }) => data.map(({ id }) => id))).toEqual(ids);
    expect([first, second, third].map(({ has_more }) => has_more)).toEqual([true, true, false]);
    expect(third.next).toBeNull();
  });

  test('filters by status, also after a job whose status has changed', async () => {
    const [old, middle, young] = [await created(), await created(), await created()];
    await started(middle.id);
    const queued = await store.listJobs({ status: 'queued' });
    expect(queued.data.map(({ id }) => id)).toEqual([young.id, old.id]);
    expect((await store.listJobs({ status: 'preparing' })).data.map(({ id }) => id)).toEqual([middle.id]);
    expect((await store.listJobs({ status: 'queued', after: middle.id })).data.map(({ id }) => id)).toEqual([old.id]);
    expect((await store.listJobs({ status: 'succeeded' })).data).toEqual([]);
  });

  test('refuses an unknown job in `after`', async () => {
    expect(await store.listJobs({ after: 'job_nothere' }).catch(codeOf)).toBe('invalid_request');
  });
});

describe('attempts', () => {
  test('a complete run', async () => {
    const job = await created();
    const attempt = await started(job.id);
    expect(attempt).toMatchObject({ number: 1, job: { status: 'preparing' } });
    const report = { warnings: [], tokens: { total: 300 }, steps: { total: 10 } } as never;
    expect(await store.attempts.record(attempt, { type: 'report-ready', data: { report } })).toBe('done');
    expect(await store.getJob(job.id)).toMatchObject({ status: 'running', report: { warnings: [] } });
    expect(await store.attempts.record(attempt, step(7))).toBe('done');
    expect((await store.getJob(job.id))?.progress).toMatchObject({ step: 7, loss: 2.5, tokens_per_second: 100.25 });
    expect(await store.attempts.beginPublishing(attempt)).toBe('done');
    expect(await store.attempts.succeed(attempt, 'ad_0123456789abcdef01234567')).toBe('done');
    expect(await store.getJob(job.id)).toMatchObject({ status: 'succeeded', adapter: 'ad_0123456789abcdef01234567' });
    expect(await eventTypes(job.id)).toEqual([
      'job-queued',
      'job-started',
      'report-ready',
      'step-finished',
      'adapter-published',
    ]);
    expect(await store.inputs.active(job.dataset)).toEqual([]);
    expect(await store.attempts.start(job.id, 'w')).toEqual({ outcome: 'not-needed', reason: 'succeeded' });
  });

  test('the next one says how much time is left after its first step', async () => {
    const job = await created();
    const attempt = await started(job.id);
    await store.attempts.record(attempt, step(7));
    const before = (await store.getJob(job.id))!.progress;
    expect(before).toMatchObject({ step: 7, seconds_left: 9 });
    expect(await store.attempts.release(attempt)).toBe('done');
    const next = await started(job.id);
    expect(await store.getJob(job.id)).toMatchObject({
      status: 'preparing',
      progress: { ...before, seconds_left: null },
    });
    await store.attempts.record(next, step(8));
    expect((await store.getJob(job.id))!.progress).toMatchObject({ step: 8, seconds_left: 9 });
  });

  test('an older attempt can no longer write', async () => {
    const job = await created();
    const first = await started(job.id);
    const second = await started(job.id);
    expect(second.number).toBe(2);
    expect(await store.attempts.record(first, step(1))).toBe('stale');
    expect(await store.attempts.beginPublishing(first)).toBe('stale');
    expect(await store.attempts.succeed(first, 'ad_0123456789abcdef01234567')).toBe('stale');
    expect(await store.attempts.fail(first, { code: 'x', message: 'x', details: [] })).toBe('stale');
    expect(await store.attempts.release(first)).toBe('stale');
    expect(await store.attempts.check(second)).toBe('done');
    expect(await eventTypes(job.id)).toEqual(['job-queued', 'job-started', 'job-started']);
  });

  test('a write whose reply was lost can be repeated', async () => {
    const job = await created();
    const attempt = await started(job.id);
    expect(await store.attempts.succeed(attempt, 'ad_0123456789abcdef01234567')).toBe('done');
    expect(await store.attempts.succeed(attempt, 'ad_0123456789abcdef01234567')).toBe('done');
    expect((await eventTypes(job.id)).filter((type) => type === 'adapter-published')).toHaveLength(1);
  });

  test('a released job waits again, and its old attempt is stale', async () => {
    const job = await created();
    const attempt = await started(job.id);
    expect(await store.attempts.release(attempt)).toBe('done');
    expect((await store.getJob(job.id))?.status).toBe('queued');
    expect(await store.attempts.record(attempt, step(1))).toBe('stale');
    expect((await started(job.id)).number).toBe(2);
  });

  test('a release whose reply was lost can be repeated until another attempt holds the job', async () => {
    const job = await created();
    const attempt = await started(job.id);
    expect(await store.attempts.release(attempt)).toBe('done');
    expect(await store.attempts.release(attempt)).toBe('done');
    expect(await store.attempts.succeed(attempt, 'ad_0123456789abcdef01234567')).toBe('stale');
    const next = await started(job.id);
    expect(await store.attempts.release(attempt)).toBe('stale');
    expect(await store.attempts.release(next)).toBe('done');
    expect(await store.attempts.release(attempt)).toBe('stale');
  });

  test('a failure is written to the record and to the events', async () => {
    const job = await created();
    const error = { code: 'non_finite_loss', message: 'The loss is not finite.', details: [] };
    await store.attempts.fail(await started(job.id), error);
    const failed = await store.getJob(job.id);
    expect(failed).toMatchObject({ status: 'failed', error });
    expect(failed?.ended_at).not.toBeNull();
    expect(Value.Check(JobSchema, failed)).toBe(true);
    expect((await store.readEvents(job.id)).data.at(-1)).toMatchObject({ type: 'job-failed', data: { error } });
  });

  test('a trainer may not write the events of the service', async () => {
    const attempt = await started((await created()).id);
    const event: NewJobEvent = { type: 'job-cancelled', data: {} };
    await expect(async () => store.attempts.record(attempt, event)).rejects.toThrow('job-cancelled');
  });

  test('reconcile fails a job that the queue gave up', async () => {
    const job = await created();
    await started(job.id);
    const held = await queue.getJob(job.id);
    await redis.lrem(queue.toKey('wait'), 0, job.id);
    await redis.zadd(queue.toKey('failed'), Date.now(), job.id);
    await redis.hset(queue.toKey(job.id), 'failedReason', 'job stalled more than allowable limit', 'finishedOn', 1);
    expect(held?.id).toBe(job.id);
    expect(await store.reconcile()).toEqual({ requeued: [], ended: [job.id] });
    expect(await store.getJob(job.id)).toMatchObject({ status: 'failed', error: { code: 'trainer_crashed' } });
    expect(await store.reconcile()).toEqual({ requeued: [], ended: [] });
  });
});

describe('requestCancel', () => {
  test('cancels a waiting job at once and removes it from the queue', async () => {
    const job = await created();
    expect((await store.requestCancel(job.id)).status).toBe('cancelled');
    expect(await queue.getJobState(job.id)).toBe('unknown');
    expect(await eventTypes(job.id)).toEqual(['job-queued', 'job-cancelled']);
    expect(await store.attempts.start(job.id, 'w')).toEqual({ outcome: 'not-needed', reason: 'cancelled' });
    expect(await store.requestCancel(job.id).catch(codeOf)).toBe('job_not_cancellable');
  });

  test('cancels a running job when its worker confirms', async () => {
    const job = await created();
    const attempt = await started(job.id);
    expect((await store.requestCancel(job.id)).status).toBe('preparing');
    expect((await store.requestCancel(job.id)).status).toBe('preparing');
    expect(await store.attempts.check(attempt)).toBe('cancel-requested');
    expect(await store.attempts.beginPublishing(attempt)).toBe('cancel-requested');
    expect(await store.attempts.release(attempt)).toBe('cancel-requested');
    expect(await store.attempts.cancel(attempt)).toBe('done');
    expect((await store.getJob(job.id))?.status).toBe('cancelled');
    expect((await eventTypes(job.id)).at(-1)).toBe('job-cancelled');
  });

  test('a job that a rung has stopped says so until it is resumed', async () => {
    const { id } = await created();
    expect((await store.requestCancel(id, { stoppedAtRung: 10 })).stopped_at_rung).toBe(10);
    expect((await store.sweeps.jobs([id]))[0]).toMatchObject({ status: 'cancelled', stopped_at_rung: 10 });
    expect(await store.resumeJob(id)).not.toHaveProperty('stopped_at_rung');
    const attempt = await started(id);
    expect(await store.requestCancel(id, { stoppedAtRung: 20 })).not.toHaveProperty('stopped_at_rung');
    await store.attempts.cancel(attempt);
    expect((await store.getJob(id))?.stopped_at_rung).toBe(20);
  });

  test('a job that its user cancels before a rung stops it is cancelled', async () => {
    const { id } = await created();
    const attempt = await started(id);
    await store.requestCancel(id);
    await store.requestCancel(id, { stoppedAtRung: 10 });
    await store.attempts.cancel(attempt);
    expect(await store.getJob(id)).not.toHaveProperty('stopped_at_rung');
  });

  test('a job whose worker died before it confirmed is cancelled by the next attempt', async () => {
    const job = await created();
    await started(job.id);
    await store.requestCancel(job.id);
    expect(await store.attempts.start(job.id, 'w2')).toEqual({ outcome: 'not-needed', reason: 'cancelled' });
    expect((await store.getJob(job.id))?.status).toBe('cancelled');
  });

  test('is refused while the adapter is being published, unless that attempt died', async () => {
    const job = await created();
    const attempt = await started(job.id);
    await store.attempts.beginPublishing(attempt);
    expect(await store.requestCancel(job.id).catch(codeOf)).toBe('job_not_cancellable');
    await started(job.id);
    expect((await store.requestCancel(job.id)).status).toBe('preparing');
  });

  test('if a worker takes the job at the same moment, exactly one of the two takes effect', async () => {
    for (let i = 0; i < 30; i++) {
      const job = await created();
      const other = redis.duplicate();
      const otherStore = createJobStore({ redis: other, prefix });
      const order = i % 2 === 0;
      const [start] = await Promise.all(
        order
          ? [store.attempts.start(job.id, 'w'), otherStore.requestCancel(job.id)]
          : [otherStore.attempts.start(job.id, 'w'), store.requestCancel(job.id)],
      );
      const now = await store.getJob(job.id);
      if (start.outcome === 'not-needed') {
        expect(now?.status).toBe('cancelled');
      } else {
        expect(now?.status).toBe('preparing');
        expect(await store.attempts.check(start.attempt)).toBe('cancel-requested');
      }
      await otherStore.close();
      await other.quit();
    }
  });

  test('reports an unknown job as not found', async () => {
    expect(await store.requestCancel('job_nothere').catch(codeOf)).toBe('job_not_found');
  });
});

describe('deleteJob', () => {
  test('removes an ended job with all its keys', async () => {
    const before = await redis.keys(`${server.prefix}*`);
    const { job } = await store.createJob(aJobSpec(), { idempotencyKey: 'k', requestHash: 'one' });
    await store.requestCancel(job.id);
    await store.deleteJob(job.id);
    expect(await store.getJob(job.id)).toBeNull();
    expect((await store.listJobs()).data).toEqual([]);
    expect(await store.deleteJob(job.id).catch(codeOf)).toBe('job_not_found');
    const left = (await redis.keys(`${server.prefix}*`)).filter((key) => !before.includes(key));
    expect(left.filter((key) => key.includes(job.id))).toEqual([]);
  });

  test('refuses an unfinished job', async () => {
    const job = await created();
    expect(await store.deleteJob(job.id).catch(codeOf)).toBe('job_still_active');
    await started(job.id);
    expect(await store.deleteJob(job.id).catch(codeOf)).toBe('job_still_active');
  });
});

describe('readEvents', () => {
  test('continues after any event', async () => {
    const attempt = await started((await created()).id);
    for (let i = 1; i <= 5; i++) await store.attempts.record(attempt, step(i));
    const { id } = attempt.job;
    const all = await store.readEvents(id);
    expect(all.data.every((event) => Value.Check(JobEventSchema, event))).toBe(true);
    const first = await store.readEvents(id, { limit: 3 });
    expect(first).toMatchObject({ has_more: true, next: first.data[2]?.id });
    const rest = await store.readEvents(id, { after: first.next ?? '' });
    expect([...first.data, ...rest.data]).toEqual(all.data);
    expect(await store.readEvents(id, { after: all.next ?? '' })).toEqual({ data: [], has_more: false, next: null });
  });

  test('a waiting reader receives an event at once, also from another process', async () => {
    const attempt = await started((await created()).id);
    const { next } = await store.readEvents(attempt.job.id);
    const other = redis.duplicate();
    const reader = createJobStore({ redis: other, prefix });
    const readers = Array.from({ length: 20 }, () =>
      reader.readEvents(attempt.job.id, { after: next ?? '', blockMs: 60_000 }),
    );
    setTimeout(() => void store.attempts.record(attempt, step(1)), 100);
    for (const { data } of await Promise.all(readers)) {
      expect(data.map(({ type }) => type)).toEqual(['step-finished']);
    }
    await reader.close();
    await other.quit();
  });

  test('a wait ends on timeout, on the signal and when the store is closed', async () => {
    const job = await created();
    const { next } = await store.readEvents(job.id);
    const after = next ?? '';
    expect((await store.readEvents(job.id, { after, blockMs: 50 })).data).toEqual([]);
    const gone = AbortSignal.timeout(50);
    expect((await store.readEvents(job.id, { after, blockMs: 60_000, signal: gone })).data).toEqual([]);
    const waiting = store.readEvents(job.id, { after, blockMs: 60_000 });
    await new Promise((resolve) => setTimeout(resolve, 50));
    await store.close();
    expect((await waiting).data).toEqual([]);
  });

  test('refuses an unknown job and an invalid event id', async () => {
    expect(await store.readEvents('job_nothere').catch(codeOf)).toBe('job_not_found');
    const job = await created();
    for (const after of ['abc', '1-2-3', '-', '+', '(1-1', `${'9'.repeat(30)}-1`]) {
      expect(await store.readEvents(job.id, { after }).catch(codeOf)).toBe('invalid_request');
    }
  });
});

test('every call fails at once while Redis is unavailable', async () => {
  const away = new Redis(await absentRedisUrl(), {
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    // Longer than the timeout of this test.
    commandTimeout: 60_000,
  });
  away.on('error', () => {});
  const lonely = createJobStore({ redis: away, prefix });
  const calls = [
    lonely.createJob(aJobSpec(), { requestHash: 'h' }),
    lonely.getJob('job_a'),
    lonely.listJobs(),
    lonely.requestCancel('job_a'),
    lonely.readEvents('job_a', { blockMs: 5_000 }),
    lonely.attempts.start('job_a', 'w'),
    lonely.reconcile(),
  ];
  for (const call of calls) expect(await call.catch(codeOf)).toBe('redis_unavailable');
  await lonely.close();
  away.disconnect();
});
