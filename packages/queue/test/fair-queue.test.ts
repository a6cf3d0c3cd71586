import { type JobId, type JobPriority, type KeyId, newIdentifier, type Owner } from '@lorasmith/contracts';
import { Worker } from 'bullmq';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createJobStore, type JobStore, jobKeys, openWorkerStarts, QUEUE_NAME } from '../src/index.js';
import { aJobSpec } from './a-job-spec.js';
import { prefix, redis, useJobStore } from './real-job-store.js';
import { type DrivenClock, SimulatedWorker, type SimulatedWorkerOptions } from './simulated-worker.js';

useJobStore();

const TURN_MS = 10_000;
const TICK_MS = 1_000;

let clock: DrivenClock;
let store: JobStore;
let workers: SimulatedWorker[];
let stepsLeft: Map<JobId, number>;

beforeEach(() => {
  clock = { ms: 1_800_000_000_000 };
  store = createJobStore({ redis, prefix, timeSliceMs: TURN_MS, clock: () => clock.ms });
  workers = [];
  stepsLeft = new Map();
});
afterEach(async () => {
  await Promise.all(workers.map((worker) => worker.close()));
  await store.close();
});

const keyOf = (letter: string): KeyId => `key_${letter.repeat(24)}` as KeyId;
const [A, B, C, D] = ['a', 'b', 'c', 'd'].map(keyOf) as [KeyId, KeyId, KeyId, KeyId];

interface Sent {
  owner?: Owner;
  base?: string;
  priority?: JobPriority;
  steps?: number;
}

async function send({ owner = null, base = 'one', priority = 'normal', steps = 10 }: Sent = {}): Promise<JobId> {
  const spec = aJobSpec({ base_model: base, priority });
  const { job } = await store.createJob(spec, { requestHash: 'h', owner });
  stepsLeft.set(job.id, steps);
  clock.ms++;
  return job.id;
}

async function sendMany(count: number, sent: Sent): Promise<JobId[]> {
  const ids: JobId[] = [];
  for (let i = 0; i < count; i++) ids.push(await send(sent));
  return ids;
}

/** One that trains 10 steps a second. */
function aWorker(changes: Partial<SimulatedWorkerOptions> = {}): SimulatedWorker {
  const name = `worker-${workers.length + 1}`;
  const options = { redis, prefix, store, clock, timeSliceMs: TURN_MS, slots: 1, speed: 1_000, stepsLeft, name };
  const worker = new SimulatedWorker({ ...options, ...changes });
  workers.push(worker);
  return worker;
}

/** Lets all workers work. @returns the jobs in the order in which they were taken */
async function drive(ticks: number, onTick: () => Promise<void> | void = () => {}): Promise<JobId[]> {
  const taken: JobId[] = [];
  for (let tick = 0; tick < ticks; tick++) {
    for (const worker of workers) taken.push(...(await worker.look()));
    await onTick();
    clock.ms += TICK_MS;
    for (const worker of workers) await worker.train(TICK_MS);
  }
  return taken;
}

/** The tokens that a key has used, divided by its weight. */
const used = async (owner: string) => Number(await redis.hget(jobKeys(prefix).keyUsed, owner));

test('keys take turns by tokens, whatever each has sent first', async () => {
  const ofA = await sendMany(6, { owner: A });
  const ofB = await sendMany(2, { owner: B, steps: 20 });
  const small = await send({ steps: 5 });
  aWorker();
  // Those of B are twice as long. Each start counts for some tokens, too.
  expect(await drive(30)).toEqual([ofA[0], ofB[0], small, ofA[1], ofB[1], ...ofA.slice(2)]);
});

test('a key gets its share by its weight, also after all processes have restarted', async () => {
  await redis.hset(jobKeys(prefix).keyWeights, B, 3);
  const ofA = await sendMany(20, { owner: A });
  await sendMany(40, { owner: B });
  aWorker();
  const before = await drive(20);
  await store.close();
  store = createJobStore({ redis, prefix, timeSliceMs: TURN_MS, clock: () => clock.ms });
  aWorker();
  await workers.shift()!.close();
  const order = [...before, ...(await drive(20))];
  expect(order.length).toBe(40);
  expect(order.filter((id) => ofA.includes(id)).length).toBe(10);
  expect(Math.abs((await used(A)) - (await used(B)))).toBeLessThanOrEqual(2_000);
});

test('a key that had no jobs for long has no credit, and one that used much is not punished for ever', async () => {
  await sendMany(5, { owner: A, steps: 50 });
  aWorker();
  await drive(60);
  expect(await used(A)).toBeGreaterThan(25_000);
  const ofB = await sendMany(10, { owner: B, steps: 50 });
  const ofA = await sendMany(2, { owner: A, steps: 50 });
  const order = await drive(50);
  expect(order.slice(0, 4)).toEqual([ofB[0], ofA[0], ofB[1], ofA[1]]);
});

describe('priority', () => {
  test('orders the jobs of a key, and does nothing between keys', async () => {
    const [low, normal, high] = [
      await send({ owner: A, priority: 'low' }),
      await send({ owner: A }),
      await send({ owner: A, priority: 'high' }),
    ];
    const other = await send({ owner: B, priority: 'low' });
    aWorker();
    expect(await drive(20)).toEqual([high, other, normal, low]);
  });

  test('never lets more than 200 later jobs of the key go first', async () => {
    const low = await send({ priority: 'low' });
    const later: JobId[] = [];
    for (let i = 0; i < 205; i++) later.push(await send({ priority: 'high' }));
    const { waiting } = await store.queue.snapshot();
    const line = waiting.sort((one, other) => one.entry!.place - other.entry!.place).map(({ id }) => id);
    expect(line.indexOf(low)).toBe(200);
    expect(await store.queue.forecast({ id: low, status: 'queued' })).toMatchObject({ ahead: 200 });
  });
});

describe('base models', () => {
  test('jobs on the loaded one go first, for a turn', async () => {
    const ones = await sendMany(2, { owner: A });
    const two = await send({ owner: B, base: 'two' });
    const more = await sendMany(30, { owner: A });
    const worker = aWorker();
    const order = await drive(60);
    // Ten of a second each, then the turn is over.
    expect(order.slice(0, 11)).toEqual([...ones, ...more.slice(0, 8), two]);
    expect(worker.changesOfBase).toBe(3);
  });

  test('a long job is paused after a turn, and continues after a turn of the other', async () => {
    const long = await send({ owner: A, steps: 100_000 });
    aWorker();
    await drive(40);
    const other = await send({ owner: B, base: 'two', steps: 100_000 });
    // It has run for four turns by itself, and then has a turn from when the other was sent.
    expect(await drive(10)).toEqual([]);
    expect(await drive(1)).toEqual([other]);
    expect(await store.getJob(long)).toMatchObject({ status: 'queued', attempts: 1 });
    expect(await drive(9)).toEqual([]);
    expect(await drive(2)).toEqual([long]);
  });

  test('one worker makes way for a job, not every one', async () => {
    const long = await sendMany(3, { owner: A, steps: 100_000 });
    for (const _ of long) aWorker();
    await drive(1);
    const other = await send({ owner: B, base: 'two', steps: 100_000 });
    expect(await drive(15)).toEqual([other]);
    const statuses = await Promise.all(long.map(async (id) => (await store.getJob(id))?.status));
    expect(statuses.sort()).toEqual(['queued', 'running', 'running']);
  });
});

describe('a worker without a free place', () => {
  test('gives one to a key that has none, soon, and takes turns within a key', async () => {
    const ofA = await sendMany(4, { owner: A, steps: 100_000 });
    aWorker({ slots: 3 });
    expect(await drive(5)).toEqual(ofA.slice(0, 3));
    const ofB = await send({ owner: B, steps: 100_000 });
    // After a twentieth of a turn.
    expect(await drive(2)).toEqual([ofB]);
    expect(await drive(3)).toEqual([]);
    expect(await drive(2)).toEqual([ofA[3]]);
  });
});

describe('a forecast', () => {
  const at = (seconds: number) => new Date(clock.ms + seconds * 1_000).toISOString();
  const planned = async (owner: Owner, seconds: number | null) =>
    (await store.createJob(aJobSpec(), { requestHash: 'h', owner, planned: { tokens: 1_000, seconds, memory: null } }))
      .job;
  const take = async (id: JobId) => {
    const { queuePrefix } = jobKeys(prefix);
    const worker = new Worker(QUEUE_NAME, null, { connection: redis, prefix: queuePrefix, autorun: false });
    await store.queue.moveToFront(id);
    await worker.getNextJob('token', { block: false });
    await worker.close();
  };

  test('says when the jobs start and end, from what workers hold and what was planned', async () => {
    const [running, next, other, unknown, last] = [
      await planned(A, 100),
      await planned(A, 50),
      await planned(B, 30),
      await planned(A, null),
      await planned(A, 10),
    ];
    // Nobody trains.
    expect(await store.queue.forecast(next)).toEqual({
      ahead: 2,
      reason: 'no-worker',
      estimated_start: null,
      estimated_end: null,
    });
    clock.ms += 2_000;
    const start = await store.attempts.start(running.id, 'w');
    if (start.outcome !== 'started') throw new Error(start.reason);
    await take(running.id);
    await store.queue.announce('w', { slots: 1, held: [running.id] });
    const preparing = { id: running.id, status: 'preparing' as const };
    expect(await store.queue.forecast(preparing)).toEqual({
      ahead: 0,
      reason: null,
      estimated_start: null,
      estimated_end: at(100),
    });
    expect(await store.queue.forecast(other)).toEqual({
      ahead: 0,
      reason: 'workers-busy',
      estimated_start: at(100),
      estimated_end: at(130),
    });
    expect(await store.queue.forecast(next)).toMatchObject({
      ahead: 1,
      estimated_start: at(130),
      estimated_end: at(180),
    });
    // Nothing is invented for and after a job whose length nobody knows.
    expect(await store.queue.forecast(unknown)).toMatchObject({
      ahead: 2,
      estimated_start: at(180),
      estimated_end: null,
    });
    expect(await store.queue.forecast(last)).toMatchObject({ ahead: 3, estimated_start: null, estimated_end: null });

    // Its trainer knows better than the plan.
    const data = {
      step: 1,
      total_steps: 9,
      loss: 1,
      accuracy: 0.5,
      learning_rate: 1,
      grad_norm: 1,
      epoch: 1,
      tokens_per_second: 1,
    };
    await store.attempts.record(start.attempt, { type: 'step-finished', data: { ...data, seconds_left: 40 } });
    await store.queue.announce('w', { slots: 2, held: [running.id] });
    clock.ms += 2_000;
    expect(await store.queue.forecast(other)).toMatchObject({ estimated_start: at(0), estimated_end: at(60) });
    // It shares the machine until the other one has ended.
    expect(await store.queue.forecast(preparing)).toMatchObject({ estimated_end: at(70 + 10) });
    // A job whose length nobody knows keeps its share; how long the others take is known all the same.
    await store.queue.announce('w', { slots: 4, held: [running.id] });
    clock.ms += 2_000;
    expect(await store.queue.forecast(unknown)).toMatchObject({ estimated_start: at(0), estimated_end: null });
    expect(await store.queue.forecast(last)).toMatchObject({ estimated_start: at(4 * 30), estimated_end: at(160) });
    expect(await store.queue.forecast(preparing)).toMatchObject({ estimated_end: at(4 * 40) });
    expect(await store.queue.forecast(next)).toMatchObject({ estimated_end: at(160 + 2 * 10) });
    // A worker that says nothing any more does not count.
    clock.ms += 30_000;
    expect(await store.queue.forecast(other)).toMatchObject({ estimated_start: null, estimated_end: null });
    expect(await store.queue.forecast({ ...other, status: 'cancelled' })).toBeNull();
  });

  test('says what keeps a job waiting: no worker, one that starts, or other jobs', async () => {
    const job = await planned(A, 100);
    const starts = openWorkerStarts({ redis, prefix, clock: () => clock.ms });
    const reason = async () => {
      clock.ms += 2_000;
      return (await store.queue.forecast(job))?.reason;
    };
    expect(await reason()).toBe('no-worker');
    await starts.announce('w', 'starting');
    await starts.announce('v', 'measuring');
    expect(await reason()).toBe('worker-measuring');
    await starts.end('v');
    expect(await reason()).toBe('worker-starting');
    await store.queue.announce('v', { slots: 1, held: [] });
    expect(await reason()).toBeNull();
    await store.queue.announce('v', { slots: 1, held: [newIdentifier('job')] });
    expect(await reason()).toBe('worker-starting');
    await starts.end('w');
    expect(await reason()).toBe('workers-busy');
    await starts.announce('w', 'self-test');
    expect(await reason()).toBe('worker-self-test');
  });

  test('counts what a job had done whose worker has died, until its next step', async () => {
    const { id } = await planned(A, 100);
    const start = await store.attempts.start(id, 'w');
    if (start.outcome !== 'started') throw new Error(start.reason);
    const figures = { epoch: 1, loss: 1, accuracy: 1, learning_rate: 1, grad_norm: 1, tokens_per_second: 1 };
    const step = { ...figures, step: 7, total_steps: 10, seconds_left: 9 };
    await store.attempts.record(start.attempt, { type: 'step-finished', data: step });
    await take(id);
    await store.attempts.start(id, 'v');
    await store.queue.announce('v', { slots: 1, held: [id] });
    const job = await store.getJob(id);
    expect(await store.queue.forecast(job!)).toMatchObject({ estimated_end: at(30) });
  });

  test('counts what remains of a job that continues from a checkpoint', async () => {
    const { id } = await planned(A, 100);
    const waits = async () => (await store.queue.work()).jobs.map(({ tokens, seconds }) => ({ tokens, seconds }));
    expect(await waits()).toEqual([{ tokens: 1_000, seconds: 100 }]);
    const figures = { epoch: 1, loss: 1, accuracy: 1, learning_rate: 1, grad_norm: 1, tokens_per_second: 1 };
    const step = { ...figures, step: 9, total_steps: 10, seconds_left: 1 };
    const saved = { object: 'checkpoint' as const, job: id, epoch: 1, train_loss: 1, eval_loss: null, bytes: 1 };
    const checkpoint = { ...saved, step: 8, is_best: false, is_last: true, created_at: new Date(0).toISOString() };
    const start = await store.attempts.start(id, 'w');
    if (start.outcome !== 'started') throw new Error(start.reason);
    await store.attempts.record(start.attempt, { type: 'step-finished', data: step }, [checkpoint]);
    await store.attempts.release(start.attempt);
    expect(await waits()).toMatchObject([{ tokens: 200 }]);

    await store.requestCancel(id);
    const resumed = await store.resumeJob(id);
    expect(await waits()).toEqual([{ tokens: 200, seconds: 20 }]);
    await store.queue.announce('w', { slots: 1, held: [] });
    expect(await store.queue.forecast(resumed)).toEqual({
      ahead: 0,
      reason: null,
      estimated_start: at(0),
      estimated_end: at(20),
    });

    // Without its checkpoints it starts again.
    await store.requestCancel(id);
    expect(await store.checkpoints.forget(id)).toBe(true);
    await store.resumeJob(id);
    expect(await waits()).toEqual([{ tokens: 1_000, seconds: 100 }]);
  });
});

test('nobody starves, whatever base model, key, priority and load', async () => {
  let seed = 7;
  const random = (n: number) => {
    seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
    return Math.floor((seed / 2 ** 31) * n);
  };
  await redis.hset(jobKeys(prefix).keyWeights, A, 100, B, 0.01);
  aWorker({ slots: 2, speed: 2_000 });
  const owners = [A, B, C, D, null];
  const unservedSince = new Map<string, number>();
  let longest = 0;
  for (const owner of owners) for (const base of ['one', 'two']) await send({ owner, base, steps: 5_000 });
  await drive(500, async () => {
    // More than the worker can do.
    if (random(3) === 0) {
      await send({
        owner: owners[random(5)]!,
        base: ['one', 'two', 'three'][random(3)]!,
        priority: (['low', 'normal', 'high'] as const)[random(3)]!,
        steps: 1 + random(200),
      });
    }
    const { waiting } = await store.queue.snapshot();
    const served = new Set(workers.flatMap((worker) => worker.jobs.map(({ key }) => key)));
    for (const key of new Set(waiting.map(({ entry }) => entry!.key))) {
      if (served.has(key)) unservedSince.delete(key);
      else if (!unservedSince.has(key)) unservedSince.set(key, clock.ms);
      longest = Math.max(longest, clock.ms - (unservedSince.get(key) ?? clock.ms));
    }
  });
  expect(longest).toBeGreaterThan(TURN_MS);
  // The stated bound for five keys.
  expect(longest).toBeLessThanOrEqual((5 * 5 + 1) * TURN_MS);
});

test('a sweep of one key takes nothing from a single job of another', async () => {
  const spec = aJobSpec({ base_model: 'one' });
  const request = {
    job: { base_model: 'one', dataset: spec.dataset, validation: { split: 0.5 } },
    space: { 'lora.r': { values: Array.from({ length: 64 }, (_, i) => i + 1) } },
  };
  const variants = request.space['lora.r'].values.map((r) => ({
    values: { 'lora.r': r },
    spec: { ...spec, lora: { ...spec.lora, r } },
    adapterBytes: 1,
  }));
  const { sweep } = await store.sweeps.create(request, variants, { requestHash: 'h', owner: A });
  for (const { job } of sweep.variants) stepsLeft.set(job, 100);
  // All places are taken by variants when the other key sends its job.
  const worker = aWorker({ slots: 8 });
  await drive(1);
  expect(worker.jobs.map(({ key }) => key)).toEqual(Array(8).fill(A));
  const stepsOfSweep = () => sweep.variants.reduce((sum, { job }) => sum + 100 - stepsLeft.get(job)!, 0);
  const before = stepsOfSweep();
  const other = await send({ owner: B, steps: 100 });
  // After a twentieth of a turn it has a place.
  expect(await drive(2)).toEqual([other]);
  const [left, meanwhile] = [stepsLeft.get(other)!, stepsOfSweep()];
  expect(meanwhile - before).toBeLessThanOrEqual(20);
  // From then on it has half of the machine, as much as all variants together.
  for (let ticks = 0; ticks < left / 5; ticks++) await drive(1);
  expect(stepsLeft.get(other)).toBe(0);
  expect(Math.abs(stepsOfSweep() - meanwhile - left)).toBeLessThanOrEqual(8);
});

test('thousands of jobs of one key delay another key by at most one of them', async () => {
  const flood: Promise<JobId>[] = [];
  for (let i = 0; i < 2_000; i++) flood.push(send({ owner: A, steps: 5 }));
  await Promise.all(flood);
  const other = await send({ owner: B });
  expect(await store.queue.forecast({ id: other, status: 'queued' })).toMatchObject({ ahead: 1 });
  aWorker();
  expect((await drive(3))[1]).toBe(other);
});
