import { type JobId, newIdentifier, ProductError, type SweepRequest } from '@lorasmith/contracts';
import { describe, expect, test } from 'vitest';
import {
  type CreateSweepOptions,
  createJobStore,
  endField,
  type JobAttempt,
  jobKeys,
  type NewVariant,
} from '../src/index.js';
import { aJobSpec } from './a-job-spec.js';
import { prefix, queue, redis, store, useJobStore } from './real-job-store.js';

useJobStore();

const request = (count: number): SweepRequest => ({
  job: { base_model: 'tiny-llama', dataset: aJobSpec().dataset, validation: { split: 0.5 } },
  space: { 'lora.r': { values: Array.from({ length: count }, (_, i) => i + 1) } },
});
const variants = (count: number): NewVariant[] =>
  Array.from({ length: count }, (_, i) => ({
    values: { 'lora.r': i + 1 },
    spec: aJobSpec({ lora: { ...aJobSpec().lora, r: i + 1 } }),
    adapterBytes: 10,
    planned: { tokens: 100, seconds: 1, memory: null },
  }));
const create = (count: number, options: Partial<CreateSweepOptions> = {}) =>
  store.sweeps.create(request(count), variants(count), { requestHash: 'h', owner: null, ...options });
const codeOf = async (work: Promise<unknown>) =>
  await work.then(
    () => 'done',
    (error: unknown) => (error instanceof ProductError ? error.code : error),
  );

async function started(id: JobId): Promise<JobAttempt> {
  const start = await store.attempts.start(id, 'worker-1');
  if (start.outcome !== 'started') throw new Error(`not started: ${start.reason}`);
  return start.attempt;
}

test('a sweep is created with all its jobs, which are ordinary jobs', async () => {
  const before = (await store.createJob(aJobSpec(), { requestHash: 'h' })).job;
  const { sweep, created } = await create(64);
  expect(created).toBe(true);
  expect(sweep).toMatchObject({ request: request(64), wanted: 'run', isSettled: true, outcome: null });
  expect(await store.sweeps.get(sweep.id)).toEqual(sweep);
  const jobs = (await store.listJobs({ limit: 100 })).data.toReversed();
  expect(jobs.map(({ id }) => id)).toEqual([before.id, ...sweep.variants.map(({ job }) => job)]);
  expect(jobs.slice(1).map(({ lora, sweep: of }) => [lora.r, of])).toEqual(
    Array.from({ length: 64 }, (_, i) => [i + 1, { id: sweep.id, variant: i + 1 }]),
  );
  expect(jobs[0]).not.toHaveProperty('sweep');
  // In the queue, in their order, each with its reserved bytes and its first event.
  const { waiting } = await store.queue.snapshot();
  const line = waiting.sort((one, other) => one.entry!.place - other.entry!.place).map(({ id }) => id);
  expect(line).toEqual(jobs.map(({ id }) => id));
  expect((await store.adapterBytes.reserved(null)).own).toBe(640);
  expect((await store.inputs.active(before.dataset)).length).toBe(65);
  const { data } = await store.readEvents(sweep.variants[63]!.job);
  expect(data.map(({ type }) => type)).toEqual(['job-queued']);
  expect(await store.sweeps.active()).toEqual([sweep.id]);
});

test('a job of a sweep trains and ends as any other', async () => {
  const { sweep } = await create(2);
  const [first, second] = sweep.variants.map(({ job }) => job) as [JobId, JobId];
  const attempt = await started(first);
  const progress = { step: 4, total_steps: 8, epoch: 0.5, loss: 0.6, tokens_per_second: 100, seconds_left: 1 };
  const step = { ...progress, accuracy: 0.5, learning_rate: 1e-4, grad_norm: 1 };
  await store.attempts.record(attempt, { type: 'step-finished', data: step });
  const evaluation = { loss: 0.5, perplexity: 1.6, accuracy: 0.75, tokens: 10, trained_tokens: 5 };
  await store.attempts.record(attempt, { type: 'evaluation-finished', data: { step: 4, ...evaluation } });
  const seen = { step: 4, loss: 0.5, accuracy: 0.75, reward: null };
  expect((await store.sweeps.jobs([first]))[0]).toMatchObject({ status: 'preparing', evaluation: seen });
  // What is published may be an earlier state.
  const best = { ...evaluation, loss: 0.4 };
  await store.attempts.succeed(attempt, 'ad_0123456789abcdef01234567', 2, best);
  expect(await store.sweeps.jobs([first, second, newIdentifier('job')])).toEqual([
    {
      status: 'succeeded',
      pausedAtStep: null,
      progress,
      evaluation: { ...seen, step: 2, loss: 0.4 },
      adapter: 'ad_0123456789abcdef01234567',
      error: null,
      resumes: 0,
    },
    { status: 'queued', pausedAtStep: null, progress: null, evaluation: null, adapter: null, error: null, resumes: 0 },
    null,
  ]);
});

describe('creation is all or nothing', () => {
  const nothing = async () => {
    expect(await redis.keys(`${prefix}*:job_*`)).toEqual([]);
    expect(await redis.keys(`${prefix}sweep*`)).toEqual([]);
    expect((await store.listJobs()).data).toEqual([]);
    expect((await store.sweeps.list()).data).toEqual([]);
    expect(await queue.getWaitingCount()).toBe(0);
  };

  test.each([
    ['of unfinished jobs of the key', { maxOfOwner: 7 }, 'quota_exceeded'],
    ['of waiting jobs', { maxWaiting: 7 }, 'queue_full'],
  ])('a limit %s counts all jobs of the sweep', async (_name, limit, code) => {
    expect(await codeOf(create(8, { ...limit, idempotencyKey: 'k' }))).toBe(code);
    await nothing();
    expect(await codeOf(create(7, limit))).toBe('done');
  });

  test('rows or an adapter that are being deleted', async () => {
    await store.inputs.beginDeletion(aJobSpec().dataset);
    expect(await codeOf(create(3))).toBe('dataset_not_found');
    await nothing();
  });
});

test('the same idempotency key is the same sweep, also for another process at the same time', async () => {
  const options = { idempotencyKey: 'k' };
  const other = createJobStore({ redis, prefix });
  const [one, two] = await Promise.all([
    create(3, options),
    other.sweeps.create(request(3), variants(3), { requestHash: 'h', owner: null, ...options }),
  ]);
  await other.close();
  expect(two.sweep).toEqual(one.sweep);
  expect([one.created, two.created].filter(Boolean)).toHaveLength(1);
  expect((await store.listJobs()).data).toHaveLength(3);
  expect(await store.sweeps.repeated({ ...options, requestHash: 'h', owner: null })).toEqual(one.sweep);
  expect(await codeOf(create(3, { ...options, requestHash: 'other' }))).toBe('idempotency_conflict');
  // A job may have the same key: it is another call.
  expect((await store.createJob(aJobSpec(), { requestHash: 'h', ...options })).created).toBe(true);
});

test('jobs that a dying process has not queued are queued by a repeated request, or by a worker', async () => {
  const { sweep } = await create(4, { idempotencyKey: 'k' });
  const ids = sweep.variants.map(({ job }) => job);
  const { queuePrefix } = jobKeys(prefix);
  const lose = async () => {
    for (const key of await redis.keys(`${queuePrefix}:*`)) await redis.del(key);
  };
  await lose();
  expect((await store.reconcile()).requeued.toSorted()).toEqual(ids.toSorted());
  await lose();
  await store.sweeps.repeated({ idempotencyKey: 'k', requestHash: 'h', owner: null });
  expect((await queue.getWaiting()).map(({ id }) => id).toSorted()).toEqual(ids.toSorted());
});

test('what is wanted stays until all jobs were asked, and the outcome is written once', async () => {
  const { sweep } = await create(2);
  const { id } = sweep;
  await store.sweeps.want(id, 'pause');
  expect(await store.sweeps.get(id)).toMatchObject({ wanted: 'pause', isSettled: false });
  await store.sweeps.want(id, 'run');
  // Too late: something else is wanted by now.
  await store.sweeps.settle(id, 'pause');
  expect(await store.sweeps.get(id)).toMatchObject({ wanted: 'run', isSettled: false });
  await store.sweeps.settle(id, 'run');
  expect(await store.sweeps.get(id)).toMatchObject({ wanted: 'run', isSettled: true });
  // Some jobs may have been paused after they were resumed: all are asked again.
  await store.sweeps.settle(id, 'pause');
  expect(await store.sweeps.get(id)).toMatchObject({ wanted: 'run', isSettled: false });
  await store.sweeps.want(id, 'cancel');
  expect(await codeOf(store.sweeps.want(id, 'run'))).toBe('sweep_ended');
  expect(await codeOf(store.sweeps.want(id, 'cancel'))).toBe('done');

  const outcome = { status: 'cancelled' as const, ranking: [], metrics: [null, null], ended_at: 'now' };
  const event = { type: 'sweep-cancelled' as const, data: {} };
  expect(await store.sweeps.conclude(id, outcome, event)).toEqual(outcome);
  const failed = { type: 'sweep-failed' as const, data: {} };
  expect(await store.sweeps.conclude(id, { ...outcome, status: 'failed' }, failed)).toEqual(outcome);
  expect(await codeOf(store.sweeps.want(id, 'cancel'))).toBe('sweep_ended');
  expect(await codeOf(store.sweeps.want(newIdentifier('sw'), 'cancel'))).toBe('sweep_not_found');
  expect(await store.sweeps.conclude(newIdentifier('sw'), outcome, event)).toBeNull();
  const { data } = await store.sweeps.readEvents(id);
  expect(data.map(({ type }) => type)).toEqual(['sweep-queued', 'sweep-paused', 'sweep-resumed', 'sweep-cancelled']);
});

test('an event is written once, and none after the last one; they are removed with the sweep', async () => {
  const { sweep } = await create(2);
  const { id, variants: of } = sweep;
  const end = (resumes: number) =>
    store.sweeps.reportEnd(
      id,
      { index: 1, resumes },
      { type: 'variant-ended', data: { variant: 2, job: of[1]!.job, status: 'failed', metric: null } },
    );
  const waiting = store.sweeps.readEvents(id, { after: (await store.sweeps.readEvents(id)).next!, blockMs: 60_000 });
  await Promise.all([end(0), end(0)]);
  expect((await waiting).data).toMatchObject([{ sweep: id, type: 'variant-ended', data: { variant: 2 } }]);
  expect([...(await store.sweeps.get(id))!.reportedEnds]).toEqual([endField(1, 0)]);
  // It was resumed, and ended again.
  await end(1);
  const outcome = { status: 'failed' as const, ranking: [], metrics: [null, null], ended_at: 'now' };
  await store.sweeps.conclude(id, outcome, { type: 'sweep-failed', data: {} });
  await end(2);
  const { data } = await store.sweeps.readEvents(id);
  expect(data.map(({ type }) => type)).toEqual(['sweep-queued', 'variant-ended', 'variant-ended', 'sweep-failed']);
  expect((await store.sweeps.readEvents(id, { after: data[2]!.id })).data).toEqual([data[3]]);
  await store.sweeps.finish(id);
  await store.sweeps.remove(id);
  expect(await codeOf(store.sweeps.readEvents(id))).toBe('sweep_not_found');
  expect(await redis.exists(jobKeys(prefix).sweepEvents(id))).toBe(0);
});

test('a sweep is deleted once nothing is to be done, and its key can create another one', async () => {
  const { sweep } = await create(2, { idempotencyKey: 'k' });
  expect(await codeOf(store.sweeps.remove(sweep.id))).toBe('sweep_still_active');
  await store.sweeps.finish(sweep.id);
  await store.sweeps.remove(sweep.id);
  expect(await store.sweeps.get(sweep.id)).toBeNull();
  expect(await codeOf(store.sweeps.remove(sweep.id))).toBe('sweep_not_found');
  expect((await store.sweeps.list()).data).toEqual([]);
  // Its jobs stay.
  expect((await store.listJobs()).data).toHaveLength(2);
  expect((await create(2, { idempotencyKey: 'k' })).created).toBe(true);
});

test('sweeps are listed newest first, by key, page by page', async () => {
  const owner = newIdentifier('key');
  const ids: string[] = [];
  for (const of of [null, owner, owner]) ids.unshift((await create(1, { owner: of })).sweep.id);
  const page = await store.sweeps.list({ limit: 2 });
  expect(page).toMatchObject({ has_more: true, next: ids[1] });
  expect(page.data.map(({ id }) => id)).toEqual(ids.slice(0, 2));
  expect((await store.sweeps.list({ after: ids[1]! })).data.map(({ id }) => id)).toEqual(ids.slice(2));
  expect((await store.sweeps.list({ owner })).data.map(({ id }) => id)).toEqual(ids.slice(0, 2));
  expect(await codeOf(store.sweeps.list({ owner, after: ids[2]! }))).toBe('invalid_request');
  expect(await store.sweeps.ownerOf(ids[0]!)).toBe(owner);
  expect(await store.sweeps.ownerOf(ids[2]!)).toBeNull();
  expect(await store.sweeps.ownerOf(newIdentifier('sw'))).toBeUndefined();
});

test('the deliveries of the best adapter follow from the outcome, once, whoever records it', async () => {
  const deliver = [{ kind: 'folder' as const, name: 'best' }];
  const owner = 'key_0123456789abcdef01234567';
  const { sweep } = await create(2, { owner });
  const [first, second] = sweep.variants.map(({ job }) => job);
  const outcome = { status: 'succeeded' as const, ranking: [1, 0], metrics: [0.5, 0.2], ended_at: 'now' };
  const adapter = newIdentifier('ad');
  const event = { type: 'sweep-succeeded' as const, data: { best: second!, adapter, metric: 0.2 } };
  await store.sweeps.conclude(sweep.id, outcome, event, deliver);
  const late = { type: 'sweep-succeeded' as const, data: { best: first!, adapter: newIdentifier('ad'), metric: 0.5 } };
  await store.sweeps.conclude(sweep.id, { ...outcome, ranking: [0, 1] }, late, deliver);
  expect(await store.deliveries.ofJobs()).toEqual([{ job: second, owner, adapter, webhookUrl: null, to: deliver }]);
});

test.each(['sweep-failed', 'sweep-cancelled'] as const)('%s delivers nothing', async (type) => {
  const { sweep } = await create(2);
  const outcome = { status: 'failed' as const, ranking: [], metrics: [null, null], ended_at: 'now' };
  await store.sweeps.conclude(sweep.id, outcome, { type, data: {} }, [{ kind: 'folder', name: 'best' }]);
  expect(await store.deliveries.ofJobs()).toEqual([]);
});
