import { Job as JobSchema, ProductError } from '@lorasmith/contracts';
import { Value } from 'typebox/value';
import { expect, test } from 'vitest';
import { bullIdOf, type JobAttempt, jobKeys } from '../src/index.js';
import { aJobSpec } from './a-job-spec.js';
import { prefix, queue, redis, store, useJobStore } from './real-job-store.js';

useJobStore();

const created = async () => (await store.createJob(aJobSpec(), { requestHash: 'h' })).job;
const codeOf = (error: unknown) => (error instanceof ProductError ? error.code : error);
const eventTypes = async (id: string) => (await store.readEvents(id, { limit: 1000 })).data.map(({ type }) => type);

async function started(id: string, resumes?: number): Promise<JobAttempt> {
  const start = await store.attempts.start(id, 'worker-1', resumes);
  if (start.outcome !== 'started') throw new Error(`not started: ${start.reason}`);
  return start.attempt;
}

async function failed(): Promise<string> {
  const { id } = await created();
  const attempt = await started(id);
  await store.attempts.fail(attempt, { code: 'trainer_crashed', message: 'It went away.', details: [] });
  return id;
}

test('a cancelled job is queued again with the same id and event stream, and reads its dataset again', async () => {
  const { id, dataset } = await created();
  await store.requestCancel(id);
  const before = (await store.readEvents(id)).data;
  const job = await store.resumeJob(id);
  expect(Value.Check(JobSchema, job)).toBe(true);
  expect(job).toMatchObject({ id, status: 'queued', resumes: 1, ended_at: null, error: null });
  expect(await store.inputs.active(dataset)).toEqual([id]);
  expect((await store.listJobs({ status: 'queued' })).data.map((one) => one.id)).toEqual([id]);
  expect((await store.listJobs({ status: 'cancelled' })).data).toEqual([]);
  expect(await queue.getJobState(bullIdOf(job))).toBe('waiting');
  const after = (await store.readEvents(id)).data;
  expect(after.slice(0, before.length)).toEqual(before);
  expect(after.map(({ type }) => type)).toEqual(['job-queued', 'job-cancelled', 'job-resumed']);
});

test('resuming a failed job clears its error, and the previous attempt can no longer write', async () => {
  const { id } = await created();
  const old = await started(id);
  await store.attempts.fail(old, { code: 'trainer_crashed', message: 'It went away.', details: [] });
  expect(await store.resumeJob(id)).toMatchObject({ status: 'queued', error: null, attempts: 1 });
  expect(await store.attempts.check(old)).toBe('stale');
  const attempt = await started(id, 1);
  expect(attempt.number).toBe(2);
  expect(await store.attempts.check(old)).toBe('stale');
  expect(await store.attempts.check(attempt)).toBe('done');
});

test('a job that waits, runs, has succeeded or does not exist cannot be resumed', async () => {
  const { id } = await created();
  expect(await store.resumeJob(id).catch(codeOf)).toBe('job_not_resumable');
  const attempt = await started(id);
  expect(await store.resumeJob(id).catch(codeOf)).toBe('job_not_resumable');
  await store.attempts.succeed(attempt, 'ad_000000000000000000000000', 7);
  expect(await store.resumeJob(id).catch(codeOf)).toBe('job_not_resumable');
  expect((await store.readEvents(id)).data.at(-1)?.data).toEqual({ adapter: 'ad_000000000000000000000000', step: 7 });
  expect(await store.resumeJob('job_ffffffffffffffffffffffff').catch(codeOf)).toBe('job_not_found');
});

test('only a paused job is resumed where that is asked', async () => {
  const { job } = await store.createJob(aJobSpec(), { requestHash: 'h' });
  await store.requestPause(job.id);
  expect(await store.resumeJob(job.id, { onlyPaused: true })).toMatchObject({ status: 'queued' });
  await store.requestCancel(job.id);
  await expect(store.resumeJob(job.id, { onlyPaused: true })).rejects.toMatchObject({ code: 'job_not_resumable' });
  expect(await store.getJob(job.id)).toMatchObject({ status: 'cancelled' });
});

test('of many concurrent calls exactly one resumes the job', async () => {
  const id = await failed();
  const calls = await Promise.all(Array.from({ length: 10 }, () => store.resumeJob(id).catch(codeOf)));
  expect(calls.filter((answer) => answer !== 'job_not_resumable')).toHaveLength(1);
  expect((await store.getJob(id))?.resumes).toBe(1);
  expect(await eventTypes(id)).toEqual(['job-queued', 'job-started', 'job-failed', 'job-resumed']);
  expect(await queue.getWaitingCount()).toBe(2);
});

test('an old queue entry starts nothing, and reconcile does not take it for an abandoned job', async () => {
  const id = await failed();
  await store.resumeJob(id);
  expect(await store.attempts.start(id, 'late', 0)).toEqual({ outcome: 'not-needed', reason: 'resumed' });
  // For BullMQ an entry has failed if it is only in the list of failed entries.
  await redis.lrem(queue.toKey('wait'), 0, id);
  await redis.zadd(queue.toKey('failed'), Date.now(), id);
  expect(await store.reconcile()).toEqual({ requeued: [], ended: [] });
  expect((await store.getJob(id))?.status).toBe('queued');
});

test('reconcile queues a job that was resumed but not queued', async () => {
  const id = await failed();
  const job = await store.resumeJob(id);
  await queue.remove(bullIdOf(job));
  expect(await store.reconcile()).toEqual({ requeued: [id], ended: [] });
  expect(await queue.getJobState(bullIdOf(job))).toBe('waiting');
});

test('forget removes the checkpoints of an ended job, but not of a resumed job', async () => {
  const id = await failed();
  expect(await store.checkpoints.forget(id)).toBe(true);
  await store.resumeJob(id);
  expect(await store.checkpoints.forget(id)).toBe(false);
});

test('a resumed job can be cancelled and resumed again, and deleted with all its keys', async () => {
  const { id } = await created();
  for (const resumes of [1, 2]) {
    await store.requestCancel(id);
    expect((await store.resumeJob(id)).resumes).toBe(resumes);
  }
  await store.requestCancel(id);
  expect(await queue.getWaitingCount()).toBe(0);
  await store.deleteJob(id);
  expect(await store.getJob(id)).toBeNull();
});

test('the limits for new jobs also hold for resumed jobs', async () => {
  const id = await failed();
  await created();
  expect(await store.resumeJob(id, { maxWaiting: 1 }).catch(codeOf)).toBe('queue_full');
  expect(await store.resumeJob(id, { maxOfOwner: 1 }).catch(codeOf)).toBe('quota_exceeded');
  expect((await store.getJob(id))?.status).toBe('failed');
  expect((await store.resumeJob(id, { maxWaiting: 2, maxOfOwner: 2 })).status).toBe('queued');
});

test('a job cannot be resumed while its files are being removed, and can be afterwards', async () => {
  const id = await failed();
  const work = async () => {
    const refusal = await store.resumeJob(id).catch(codeOf);
    const twice = await store.whileEnded(id, ['failed'], async () => 'again');
    return { refusal, twice };
  };
  expect(await store.whileEnded(id, ['failed'], work)).toEqual({ refusal: 'job_not_resumable', twice: null });
  expect(await store.resumeJob(id)).toMatchObject({ status: 'queued' });
});

test('jobsBeingPublished returns a job until the adapter from its checkpoint is published', async () => {
  const id = await failed();
  const checkpoint = { job: id, step: 3 };
  const { job } = await store.createJob(aJobSpec(), {
    requestHash: 'p',
    task: { kind: 'publish-checkpoint', checkpoint },
  });
  expect(job).toMatchObject({ kind: 'publish-checkpoint', checkpoint });
  await created();
  expect(await store.checkpoints.jobsBeingPublished()).toEqual(new Set([id]));
  await store.requestCancel(job.id);
  expect(await store.checkpoints.jobsBeingPublished()).toEqual(new Set());
});

test('whileEnded does not run for a job that continues or has another status, and rethrows errors of its work', async () => {
  const { id } = await created();
  const work = async () => 'done';
  expect(await store.whileEnded(id, ['failed', 'cancelled'], work)).toBeNull();
  expect(await store.whileEnded('job_000000000000000000000000', ['failed'], work)).toBeNull();
  await store.requestCancel(id);
  expect(await store.whileEnded(id, ['failed'], work)).toBeNull();
  expect(await store.whileEnded(id, ['failed', 'cancelled'], work)).toBe('done');
  const broken = store.whileEnded(id, ['cancelled'], async () => {
    throw new Error('no such disk');
  });
  await expect(broken).rejects.toThrow('no such disk');
  expect(await redis.ttl(jobKeys(prefix).cleanup(id))).toBe(-2);
  expect(await store.resumeJob(id)).toMatchObject({ status: 'queued' });
});
