import type { JobEvent, JobId, NewJobEvent } from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import { beforeEach, expect, test } from 'vitest';
import { JobHistory } from '../../page/src/history/job-history.js';
import { keptEvents, thinEvents } from '../src/events/thinned-events.js';
import { createJobStore, type JobStore, jobKeys } from '../src/index.js';
import { aJobSpec } from './a-job-spec.js';
import { prefix, redis, useJobStore } from './real-job-store.js';

useJobStore();

const MINUTE_MS = 60_000;
let now = 1_000_000_000_000;
let store: JobStore;
const clock = () => now;
beforeEach(() => {
  store = createJobStore({ redis, prefix, clock });
  return () => store.close();
});

/** The loss of a step tells which attempt has trained it. */
const lossOf = (step: number, number: number) => 3 - Math.sin(step / 50) / 10 + number;
const stepEvent = (step: number, number: number): NewJobEvent => ({
  type: 'step-finished',
  data: {
    step,
    total_steps: 2_000,
    epoch: step / 100,
    loss: lossOf(step, number),
    accuracy: 0.5,
    learning_rate: 1e-4,
    grad_norm: 0.5,
    tokens_per_second: 100.25,
    seconds_left: 9,
  },
});
const evaluation = (step: number): NewJobEvent => ({
  type: 'evaluation-finished',
  data: { step, loss: 2, perplexity: null, accuracy: 0.5, tokens: 10, trained_tokens: 5 },
});

/** Trains these steps, with an evaluation every 50. @param before What is reported before the first step */
async function attempt(id: JobId, [first, last]: [number, number], before: NewJobEvent[] = []) {
  const start = await store.attempts.start(id, 'worker-1');
  if (start.outcome !== 'started') throw new Error(`not started: ${start.reason}`);
  for (const event of before) await store.attempts.record(start.attempt, event);
  for (let from = first; from <= last; from += 100) {
    const steps = Array.from({ length: Math.min(100, last - from + 1) }, (_, i) => from + i);
    await Promise.all(
      steps.flatMap((step) => [
        store.attempts.record(start.attempt, stepEvent(step, start.attempt.number)),
        ...(step % 50 === 0 ? [store.attempts.record(start.attempt, evaluation(step))] : []),
      ]),
    );
  }
  return start.attempt;
}

const FAILURE = { code: 'trainer_crashed', message: '', details: [] } as const;

/** A job whose first attempt came to step 700 and was released; the second continued from step 500 to 1,200 and failed. */
async function failedJob(): Promise<JobId> {
  const { job } = await store.createJob(aJobSpec(), { requestHash: 'h' });
  await store.attempts.release(await attempt(job.id, [1, 700]));
  const second = await attempt(job.id, [501, 1_200], [{ type: 'checkpoint-loaded', data: { step: 500 } }]);
  await store.attempts.fail(second, { ...FAILURE, details: [] });
  return job.id;
}

async function eventsOf(id: JobId): Promise<JobEvent[]> {
  const events: JobEvent[] = [];
  for (let after: string | undefined; ; ) {
    const page = await store.readEvents(id, { after, limit: 170 });
    events.push(...page.data);
    if (!page.has_more) return events;
    after = page.next!;
  }
}

const isStep = ({ type }: JobEvent) => type === 'step-finished';
const stepsOf = (events: JobEvent[]) =>
  events.flatMap((event) => (event.type === 'step-finished' ? event.data.step : []));

test('steps are thinned ten minutes after the end: the first, the last and those of each attempt stay, and all else', async () => {
  const id = await failedJob();
  const before = await eventsOf(id);
  const bytesBefore = await redis.memory('USAGE', jobKeys(prefix).events(id));
  now += 9 * MINUTE_MS;
  expect(await store.thinEvents()).toBe(0);
  expect(await eventsOf(id)).toEqual(before);
  now += 2 * MINUTE_MS;
  expect(await store.thinEvents()).toBe(1);

  const after = await eventsOf(id);
  expect(after.filter((event) => !isStep(event))).toEqual(before.filter((event) => !isStep(event)));
  expect(before).toEqual(expect.arrayContaining(after));
  const steps = stepsOf(after);
  expect(steps.length).toBeGreaterThanOrEqual(300);
  expect(steps.length).toBeLessThanOrEqual(304);
  const restart = steps.findIndex((step, i) => step < (steps[i - 1] ?? 0));
  const [first, second] = [steps.slice(0, restart), steps.slice(restart)];
  expect([first[0], first.at(-1), second[0], second.at(-1)]).toEqual([1, 700, 501, 1_200]);
  // Evenly: 1,400 steps in 300 parts.
  for (const part of [first, second])
    for (const [i, step] of part.entries()) expect(step - (part[i - 1] ?? step)).toBeLessThanOrEqual(6);

  expect(await redis.ttl(jobKeys(prefix).events(id))).toBe(-1);
  expect(await redis.memory('USAGE', jobKeys(prefix).events(id))).toBeLessThan(bytesBefore! / 3);
  expect(await redis.keys(`${prefix}*${id}:events:*`)).toEqual([]);
  // It is not due again.
  expect(await redis.zcard(jobKeys(prefix).eventsToThin)).toBe(0);
  expect(await store.thinEvents()).toBe(0);
});

test('a reader continues after any event that it has seen, also one that was thinned', async () => {
  const id = await failedJob();
  const before = await eventsOf(id);
  now += 11 * MINUTE_MS;
  await store.thinEvents();
  const after = await eventsOf(id);
  const kept = new Set(after.map((event) => event.id));
  for (const index of [0, 1, 2, 3, 411, 700, 1_000, before.length - 2, before.length - 1]) {
    const seen = before[index]!;
    const rest = before.slice(index + 1).filter((event) => kept.has(event.id));
    expect((await store.readEvents(id, { after: seen.id, limit: 1_000 })).data, `after ${index}`).toEqual(rest);
    const older = await store.newestEvents(id, { after: seen.id, limit: 1_000 });
    expect(older.data).toEqual(
      before
        .slice(0, index)
        .filter((event) => kept.has(event.id))
        .reverse(),
    );
  }
});

test('the curves of the thinned events are those of all, with fewer points', async () => {
  const id = await failedJob();
  const whole = new JobHistory();
  for (const event of await eventsOf(id)) whole.add(event);
  now += 11 * MINUTE_MS;
  await store.thinEvents();
  const thinned = new JobHistory();
  for (const event of await eventsOf(id)) thinned.add(event);
  for (const field of ['evaluations', 'lastStep', 'firstStep', 'noted', 'hasEnded', 'lastEventId'] as const)
    expect(thinned[field]).toEqual(whole[field]);
  const { steps, mean } = thinned.curves.loss.points();
  expect(steps.length).toBeGreaterThan(200);
  expect([...steps].sort((one, other) => one - other)).toEqual(steps);
  // The second attempt trained from step 501 on, although the first had come to 700.
  for (const [i, step] of steps.entries()) expect(mean[i]).toBe(lossOf(step, step > 500 ? 2 : 1));
});

test('a job that is resumed has its new events after the thinned ones, and is thinned again at its next end', async () => {
  const id = await failedJob();
  now += 11 * MINUTE_MS;
  await store.thinEvents();
  const thinned = await eventsOf(id);
  await store.resumeJob(id);
  const third = await attempt(id, [1_201, 1_900]);
  now += 11 * MINUTE_MS;
  // It has not ended.
  expect(await store.thinEvents()).toBe(0);
  const all = await eventsOf(id);
  expect(all.slice(0, thinned.length)).toEqual(thinned);
  expect(stepsOf(all).slice(-700)).toEqual(Array.from({ length: 700 }, (_, i) => 1_201 + i));
  await store.attempts.succeed(third, 'ad_0123456789abcdef01234567');
  now += 11 * MINUTE_MS;
  expect(await store.thinEvents()).toBe(1);
  const steps = stepsOf(await eventsOf(id));
  expect(steps.length).toBeLessThanOrEqual(306);
  expect(steps.at(-1)).toBe(1_900);
});

/** The connection, with one of its methods replaced. */
const withMethod = (changes: Partial<Redis>): Redis => Object.assign(Object.create(redis) as Redis, changes);

test('a job that is resumed while its events are read keeps them all', async () => {
  const id = await failedJob();
  const before = await eventsOf(id);
  now += 11 * MINUTE_MS;
  const xrange = (async (...args: Parameters<Redis['xrange']>) => {
    const page = await redis.xrange(...args);
    if (page.length < 1_000) await store.resumeJob(id);
    return page;
  }) as Redis['xrange'];
  expect(await thinEvents({ redis: withMethod({ xrange }), keys: jobKeys(prefix), clock })).toBe(0);
  expect((await eventsOf(id)).slice(0, -1)).toEqual(before);
  expect(await redis.keys(`${prefix}*${id}:events:*`)).toEqual([]);
});

test('what a process left that died before the copy replaced the events expires, and the next one thins them', async () => {
  const id = await failedJob();
  now += 11 * MINUTE_MS;
  const evalsha = (() => Promise.reject(new Error('the process died'))) as Redis['evalsha'];
  await expect(thinEvents({ redis: withMethod({ evalsha }), keys: jobKeys(prefix), clock })).rejects.toThrow('died');
  const [copy = ''] = await redis.keys(`${prefix}*${id}:events:*`);
  expect(await redis.ttl(copy)).toBeGreaterThan(0);
  expect(await store.thinEvents()).toBe(1);
  expect(await store.thinEvents()).toBe(0);
});

test('a deleted job is forgotten, and jobs with few events are never looked at', async () => {
  const id = await failedJob();
  const small = (await store.createJob(aJobSpec(), { requestHash: 'h' })).job.id;
  await store.requestCancel(small);
  expect(await redis.zrange(jobKeys(prefix).eventsToThin, '0', '-1')).toEqual([id]);
  await store.deleteJob(id);
  expect(await redis.zcard(jobKeys(prefix).eventsToThin)).toBe(0);
});

test('graded answers and progress are thinned too, few events are all kept', () => {
  const many = (type: string, count: number) =>
    Array.from({ length: count }, (_, i): [string, string[]] => [`${type}-${i}`, ['type', type, 'data', '{}']]);
  const rounds = keptEvents([...many('job-started', 1), ...many('answers-graded', 1_000), ...many('job-failed', 1)]);
  expect(rounds).toHaveLength(102);
  expect(keptEvents(many('tokenizing-progressed', 500))).toHaveLength(20);
  for (const count of [0, 1, 2, 299, 300]) expect(keptEvents(many('step-finished', count))).toHaveLength(count);
  expect(keptEvents(many('step-finished', 301))).toHaveLength(300);
  expect(keptEvents(many('evaluation-finished', 5_000))).toHaveLength(5_000);
});
