import { Job as JobSchema, ProductError } from '@lorasmith/contracts';
import { Value } from 'typebox/value';
import { expect, test } from 'vitest';
import { bullIdOf, type JobAttempt, jobKeys } from '../src/index.js';
import { aJobSpec } from './a-job-spec.js';
import { prefix, queue, redis, store, useJobStore } from './real-job-store.js';

useJobStore();

const created = async () => (await store.createJob(aJobSpec(), { requestHash: 'h', adapterBytes: 7 })).job;
const codeOf = (error: unknown) => (error instanceof ProductError ? error.code : error);
const eventTypes = async (id: string) => (await store.readEvents(id, { limit: 1000 })).data.map(({ type }) => type);
const statusOf = async (id: string) => (await store.getJob(id))?.status;
/** The jobs in the order in which they would start. */
const line = async () => {
  const { waiting } = await store.queue.snapshot();
  return waiting.sort((one, other) => one.entry!.place - other.entry!.place).map(({ id }) => id);
};

async function started(id: string, resumes?: number): Promise<JobAttempt> {
  const start = await store.attempts.start(id, 'worker-1', resumes);
  if (start.outcome !== 'started') throw new Error(`not started: ${start.reason}`);
  return start.attempt;
}

test('a waiting job is paused at once, and gets its place in the line back', async () => {
  const [first, second] = [await created(), await created()];
  const paused = await store.requestPause(first.id);
  expect(Value.Check(JobSchema, paused)).toBe(true);
  expect(paused).toMatchObject({ status: 'paused', ended_at: null });
  expect(await queue.getJobState(first.id)).toBe('unknown');
  expect(await line()).toEqual([second.id]);
  expect(await store.queue.forecast(paused)).toBeNull();
  expect((await store.listJobs({ status: 'paused' })).data.map(({ id }) => id)).toEqual([first.id]);
  // It is not finished: its dataset and the bytes of its adapter stay.
  expect(await store.inputs.active(first.dataset)).toContain(first.id);
  expect((await store.adapterBytes.reserved(null)).own).toBe(14);

  const third = await created();
  const resumed = await store.resumeJob(first.id);
  expect(resumed).toMatchObject({ status: 'queued', resumes: 1 });
  expect(await queue.getJobState(bullIdOf(resumed))).toBe('waiting');
  expect(await line()).toEqual([first.id, second.id, third.id]);
  expect(await eventTypes(first.id)).toEqual(['job-queued', 'job-paused', 'job-resumed']);
  expect((await started(first.id, 1)).number).toBe(1);
});

test('a running job is paused when its worker gives it back, whatever the reason', async () => {
  const { id } = await created();
  const attempt = await started(id);
  expect((await store.requestPause(id)).status).toBe('preparing');
  expect(await store.attempts.check(attempt)).toBe('pause-requested');
  // Twice is the same, and the trainer goes on writing until then.
  await store.requestPause(id);
  expect(await store.attempts.record(attempt, { type: 'checkpoint-saved', data: { step: 3 } })).toBe('done');
  expect(await store.attempts.release(attempt)).toBe('paused');
  // The reply may have been lost.
  expect(await store.attempts.release(attempt)).toBe('paused');
  expect(await store.attempts.check(attempt)).toBe('stale');
  expect(await statusOf(id)).toBe('paused');
  await store.resumeJob(id);
  const next = await started(id, 1);
  expect(await store.attempts.check(next)).toBe('done');
  expect(await eventTypes(id)).toEqual([
    'job-queued',
    'job-started',
    'checkpoint-saved',
    'job-paused',
    'job-resumed',
    'job-started',
  ]);
});

test('a job whose worker dies before it could pause it is paused by the next one', async () => {
  const { id } = await created();
  const dead = await started(id);
  await store.requestPause(id);
  expect(await store.attempts.start(id, 'worker-2', 0)).toEqual({ outcome: 'not-needed', reason: 'paused' });
  expect(await statusOf(id)).toBe('paused');
  for (const write of ['check', 'release', 'beginPublishing'] as const) {
    expect(await store.attempts[write](dead)).toBe('stale');
  }
  // The entry of the queue that a worker had taken just before the pause.
  expect(await store.attempts.start(id, 'worker-3', 0)).toEqual({ outcome: 'not-needed', reason: 'paused' });
  expect(await eventTypes(id)).toEqual(['job-queued', 'job-started', 'job-paused']);
});

test('reconcile does not queue a paused job, and queues one whose resume did not', async () => {
  const { id } = await created();
  await store.requestPause(id);
  expect(await store.reconcile()).toEqual({ requeued: [], ended: [] });
  const job = await store.resumeJob(id);
  await queue.remove(bullIdOf(job));
  expect(await store.reconcile()).toEqual({ requeued: [id], ended: [] });
});

test('resume withdraws a pause that has not taken effect', async () => {
  const { id } = await created();
  const attempt = await started(id);
  await store.requestPause(id);
  expect(await store.resumeJob(id)).toMatchObject({ status: 'preparing', resumes: 0 });
  expect(await store.attempts.check(attempt)).toBe('done');
  expect(await store.resumeJob(id).catch(codeOf)).toBe('job_not_resumable');
  expect(await store.attempts.release(attempt)).toBe('done');
  expect(await statusOf(id)).toBe('queued');
});

test('a cancel prevails over a pause, and ends a paused job', async () => {
  const { id } = await created();
  const attempt = await started(id);
  await store.requestPause(id);
  await store.requestCancel(id);
  expect(await store.requestPause(id).catch(codeOf)).toBe('job_not_pausable');
  expect(await store.attempts.check(attempt)).toBe('cancel-requested');
  expect(await store.attempts.release(attempt)).toBe('cancel-requested');
  await store.attempts.cancel(attempt);
  // The pause is forgotten.
  await store.resumeJob(id);
  expect(await store.attempts.check(await started(id, 1))).toBe('done');

  const other = await created();
  await store.requestPause(other.id);
  expect(await store.deleteJob(other.id).catch(codeOf)).toBe('job_still_active');
  expect(await store.requestCancel(other.id)).toMatchObject({ status: 'cancelled', ended_at: expect.any(String) });
  await store.deleteJob(other.id);
});

test('what has ended, is being published or does not train cannot be paused', async () => {
  const { id } = await created();
  const attempt = await started(id);
  await store.attempts.beginPublishing(attempt);
  expect(await store.requestPause(id).catch(codeOf)).toBe('job_not_pausable');
  await store.attempts.succeed(attempt, 'ad_000000000000000000000000', 7);
  expect(await store.requestPause(id).catch(codeOf)).toBe('job_not_pausable');
  const checkpoint = { job: id, step: 3 };
  const task = { kind: 'publish-checkpoint', checkpoint } as const;
  const { job } = await store.createJob(aJobSpec(), { requestHash: 'p', task });
  expect(await store.requestPause(job.id).catch(codeOf)).toBe('job_not_pausable');
  expect(await store.requestPause('job_ffffffffffffffffffffffff').catch(codeOf)).toBe('job_not_found');
});

test('a training that ends before its pause takes effect succeeds', async () => {
  const { id } = await created();
  const attempt = await started(id);
  await store.requestPause(id);
  expect(await store.attempts.beginPublishing(attempt)).toBe('done');
  expect(await store.attempts.succeed(attempt, 'ad_000000000000000000000000', 7)).toBe('done');
  expect(await statusOf(id)).toBe('succeeded');
});

test('a paused job counts as unfinished, and the limit of waiting jobs holds for its resume', async () => {
  const { id } = await created();
  await store.requestPause(id);
  const one = { requestHash: 'h', maxOfOwner: 1 };
  expect(await store.createJob(aJobSpec(), one).catch(codeOf)).toBe('quota_exceeded');
  await created();
  expect(await store.resumeJob(id, { maxWaiting: 1 }).catch(codeOf)).toBe('queue_full');
  expect(await statusOf(id)).toBe('paused');
  expect((await store.resumeJob(id, { maxWaiting: 2, maxOfOwner: 1 })).status).toBe('queued');
});

test('pauses leave no count behind: when every job has ended, the queue has no key', async () => {
  const ids = [(await created()).id, (await created()).id];
  for (const id of ids) await store.requestPause(id);
  const keys = jobKeys(prefix);
  expect(await redis.hgetall(keys.keyJobs)).toEqual({});
  await store.resumeJob(ids[0]!);
  expect(await redis.hgetall(keys.keyJobs)).toEqual({ '': '1' });
  for (const id of ids) await store.requestCancel(id);
  for (const hash of [keys.keyJobs, keys.queueEntries, keys.reservedBytes])
    expect(await redis.hgetall(hash)).toEqual({});
  expect(await store.queueStatus()).toMatchObject({ jobs: { paused: 0, queued: 0, cancelled: 2 } });
});
