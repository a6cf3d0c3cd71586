import type { GradingBatch, GradingOutcome } from '@lorasmith/contracts';
import { beforeEach, expect, test } from 'vitest';
import type { JobStore } from '../src/index.js';
import { jobKeys } from '../src/keys.js';
import { type AskedGrading, Gradings } from '../src/outbox/gradings.js';
import { prefix, redis, store, useJobStore } from './real-job-store.js';

useJobStore();

const never = new AbortController().signal;
let gradings: JobStore['gradings'];
beforeEach(() => {
  gradings = store.gradings;
});

function asked(completion: string, changes: Partial<AskedGrading> = {}): AskedGrading {
  const item = `{"line":3,"prompt":"Ä?","reference":{"a":1.50},"completion":${JSON.stringify(completion)}}`;
  const batch: GradingBatch = { step: 5, items: [item] };
  const grader = { kind: 'webhook' as const, url: 'https://example.com/grade?x=1', timeoutSeconds: 7 };
  return { job: 'job_0123456789abcdef01234567', owner: null, grader, batch, ...changes };
}

/** The next grading that an api claims. */
async function claimed() {
  await expect.poll(() => gradings.count()).toBeGreaterThan(0);
  return (await gradings.claim())!;
}

const graded = (...rewards: number[]): GradingOutcome => ({ kind: 'graded', rewards });

test('answers are claimed once, with everything that is sent, and their rewards come back', async () => {
  const owner = 'key_0123456789abcdef01234567';
  const outcome = gradings.ask(asked('yes', { owner }), never);
  const one = await claimed();
  expect(one).toMatchObject({
    job: 'job_0123456789abcdef01234567',
    owner,
    grader: { kind: 'webhook', url: 'https://example.com/grade?x=1', timeoutSeconds: 7 },
    answers: 1,
    attempts: 0,
  });
  expect(JSON.parse(one.body)).toMatchObject({
    type: 'answers.sampled',
    data: { job: 'job_0123456789abcdef01234567', step: 5, items: [{ completion: 'yes' }] },
  });
  expect(one.body).toContain('"reference":{"a":1.50}');
  expect(await gradings.claim()).toBeNull();
  await gradings.settle(one.id, graded(0.25));
  expect(await outcome).toEqual(graded(0.25));
  expect(await gradings.count()).toBe(0);
});

test('a failed attempt is due again, and counted', async () => {
  void gradings.ask(asked('yes'), never);
  const { id } = await claimed();
  await gradings.postpone(id, 0);
  const again = await claimed();
  expect(again).toMatchObject({ id, attempts: 1 });
  await gradings.settle(id, graded(1));
});

test('the same answers of a job are graded once: while they wait, and after a crash', async () => {
  const first = gradings.ask(asked('yes'), never);
  const { id } = await claimed();
  // The next worker of the job asks while an api is still at it.
  const second = new Gradings({ redis, keys: jobKeys(prefix) });
  const both = second.ask(asked('yes'), never);
  await gradings.settle(id, graded(1));
  expect(await Promise.all([first, both])).toEqual([graded(1), graded(1)]);
  expect(await second.ask(asked('yes'), never)).toEqual(graded(1));
  expect(await gradings.claim()).toBeNull();
  second.close();
});

test.each([
  ['other answers', asked('no')],
  ['another step', asked('yes', { batch: { ...asked('yes').batch, step: 6 } })],
  ['another job', asked('yes', { job: 'job_0123456789abcdef0123456f' })],
])('%s are graded for themselves', async (_, other) => {
  const first = gradings.ask(asked('yes'), never);
  const { id } = await claimed();
  await gradings.settle(id, graded(1));
  await first;
  const second = gradings.ask(other, never);
  const next = await claimed();
  expect(next.id).not.toBe(id);
  await gradings.settle(next.id, graded(0));
  expect(await second).toEqual(graded(0));
});

test('a grading that an api died with is due again, and one that Redis has lost is added again', async () => {
  const keys = jobKeys(prefix);
  const outcome = gradings.ask(asked('yes'), never);
  const { id } = await claimed();
  const dueMs = Number(await redis.zscore(keys.gradingsDue, id));
  const [seconds] = await redis.time();
  // The time of a request, and a margin.
  expect(dueMs - Number(seconds) * 1_000).toBeGreaterThan(7_000);
  await redis.zadd(keys.gradingsDue, 0, id);
  expect(await gradings.claim()).toMatchObject({ id, attempts: 0 });
  await redis.del(keys.gradingsDue, keys.gradingMessages);
  expect(await claimed()).toMatchObject({ id });
  await gradings.settle(id, graded(2));
  expect(await outcome).toEqual(graded(2));
});

test('an end without interest: a signal ends the wait, and what is withdrawn is asked of nobody', async () => {
  const leaving = new AbortController();
  const outcome = gradings.ask(asked('yes'), leaving.signal);
  const { id } = await claimed();
  leaving.abort();
  expect(await outcome).toBeNull();
  await gradings.withdraw(asked('yes'));
  await gradings.postpone(id, 0);
  await gradings.settle(id, graded(1));
  expect(await gradings.count()).toBe(0);
  expect(await redis.keys(`${prefix}gradings:outcome:*`)).toEqual([]);
});

test('answers that no api takes fail after a while, and are forgotten', async () => {
  const impatient = new Gradings({ redis, keys: jobKeys(prefix), patienceMs: Number.NEGATIVE_INFINITY });
  expect(await impatient.ask(asked('yes'), never)).toMatchObject({
    kind: 'failed',
    message: expect.stringContaining('no api took the answers'),
  });
  expect(await gradings.count()).toBe(0);
  impatient.close();
});
