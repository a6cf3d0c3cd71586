import { setTimeout as sleep } from 'node:timers/promises';
import type { JobId, JobSpec, KeyId, Owner } from '@lorasmith/contracts';
import {
  type BaseInMemory,
  type Capacity,
  createJobStore,
  type JobAttempt,
  type JobStore,
  jobKeys,
  QUEUE_NAME,
} from '@lorasmith/queue';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { aJobSpec } from '../../../packages/queue/test/a-job-spec.js';
import { prefix, redis, useRedis } from '../../../test/use-redis.js';
import { JobTaker, type JobTakerOptions } from '../src/job-taker.js';

const KEYS = ['a', 'b'].map((letter) => `key_${letter.repeat(24)}` as KeyId) as [KeyId, KeyId];

let store: JobStore;
let queues: JobTaker[];
/** The jobs in the order in which they ran, each with its worker. */
let runs: { id: JobId; worker: string }[];

useRedis();
beforeEach(() => {
  store = createJobStore({ redis, prefix });
  queues = [];
  runs = [];
});
afterEach(async () => {
  await Promise.all(queues.map((queue) => queue.stop()));
  await store.close();
});

/** The right to write to a job that a worker holds, and its signals. */
interface Run {
  attempt: JobAttempt;
  signal: AbortSignal;
  pause: AbortSignal;
}

/** A worker whose jobs do `work`, and that keeps the base model of its last job in memory. */
function aWorker(
  work: (run: Run) => Promise<void>,
  { name = `worker-${queues.length + 1}`, ...changes }: Partial<JobTakerOptions> & { name?: string } = {},
): JobTaker {
  let running = 0;
  let loaded: BaseInMemory = { baseModel: null, precisions: ['auto'], quantization: 'none' };
  const queue = new JobTaker({
    redis,
    prefix,
    workerName: name,
    lockMs: 4_000,
    jobsAtOnce: 1,
    timeSliceMs: 60_000,
    memory: null,
    workerClass: '',
    queue: store.queue,
    pool: { capacity: (): Capacity => ({ ...loaded, isIdle: running === 0 }), onChange: () => () => {} },
    load: () => null,
    async run(id, { signal, pause, resumes, onCounted }) {
      const start = await store.attempts.start(id, name, resumes);
      if (start.outcome !== 'started') return { kind: 'ended', status: 'not-needed' };
      const { attempt } = start;
      running++;
      loaded = { ...loaded, baseModel: attempt.job.base_model };
      onCounted();
      runs.push({ id, worker: name });
      try {
        await work({ attempt, signal, pause });
      } finally {
        running--;
      }
      if (signal.reason === 'lost-job') return { kind: 'lost' };
      if (pause.aborted || signal.aborted) {
        await store.attempts.release(attempt, { hasHadSlice: pause.aborted });
        return { kind: 'released' };
      }
      await store.attempts.succeed(attempt, 'ad_0123456789abcdef01234567');
      return { kind: 'ended', status: 'succeeded' };
    },
    log: pino({ level: 'silent' }),
    ...changes,
  });
  queues.push(queue);
  return queue;
}

async function send(owner: Owner, changes: Partial<JobSpec> = {}): Promise<JobId> {
  return (await store.createJob(aJobSpec(changes), { requestHash: 'h', owner })).job.id;
}

async function until(check: () => Promise<boolean> | boolean): Promise<void> {
  const deadline = Date.now() + 240_000;
  while (!(await check())) {
    if (Date.now() > deadline) throw new Error('this did not happen');
    await sleep(20);
  }
}

/** Waits until the lock of a job was renewed so many times: each time it lasts longer again. */
async function renewed(id: JobId, times: number): Promise<void> {
  const lock = `${jobKeys(prefix).queuePrefix}:${QUEUE_NAME}:${id}:lock`;
  let [leftMs, renewals] = [Number.POSITIVE_INFINITY, 0];
  await until(async () => {
    const nowMs = await redis.pttl(lock);
    if (nowMs > leftMs) renewals++;
    leftMs = nowMs;
    return renewals === times;
  });
}

const allSucceeded = (count: number) => async () => (await store.queueStatus()).jobs.succeeded === count;

test('several workers share the jobs of two keys: each job is run once, and no place is exceeded', async () => {
  const sent: JobId[] = [];
  for (let i = 0; i < 30; i++) sent.push(await send(KEYS[i % 3 === 0 ? 0 : 1]!));
  const holding = new Map<string, number>();
  let most = 0;
  for (const name of ['one', 'two', 'three']) {
    aWorker(
      async () => {
        holding.set(name, (holding.get(name) ?? 0) + 1);
        most = Math.max(most, holding.get(name)!);
        // None ends before each worker has some.
        await until(() => holding.size === 3);
        await sleep(20);
        holding.set(name, holding.get(name)! - 1);
      },
      { name, jobsAtOnce: 3 },
    );
  }
  await until(allSucceeded(30));
  expect(runs.map(({ id }) => id).sort()).toEqual([...sent].sort());
  expect(new Set(runs.map(({ worker }) => worker)).size).toBe(3);
  expect(most).toBe(3);
  // While both keys have jobs, they alternate.
  const first = runs.slice(0, 12).filter(({ id }) => sent.indexOf(id) % 3 === 0);
  expect(first.length).toBeGreaterThan(3);
  expect(await store.reconcile()).toEqual({ requeued: [], ended: [] });
});

test('a job keeps its lock for as long as it runs, and one whose worker is gone goes to another', async () => {
  const id = await send(null);
  // It ignores that its worker has dropped it, as a process that hangs does.
  let ends = () => {};
  const hangs = new Promise<void>((resolve) => {
    ends = resolve;
  });
  const lockMs = 4_000;
  const first = aWorker(() => hangs, { lockMs });
  await until(() => runs.length === 1);
  aWorker(async () => {}, { lockMs });
  await renewed(id, 6);
  expect(runs.length).toBe(1);
  await first.abandon();
  queues.shift();
  await until(allSucceeded(1));
  expect(runs).toEqual([
    { id, worker: 'worker-1' },
    { id, worker: 'worker-2' },
  ]);
  ends();
});

test('a job for another base model gets its turn: the others are paused, then continue', async () => {
  const untilPaused = async ({ attempt, signal, pause }: Run) => {
    if (attempt.job.base_model === 'one' && attempt.number === 1) {
      await until(() => pause.aborted || signal.aborted);
    }
  };
  const [first, second] = [await send(KEYS[0], { base_model: 'one' }), await send(KEYS[1], { base_model: 'one' })];
  aWorker(untilPaused, { jobsAtOnce: 2, timeSliceMs: 500 });
  await until(() => runs.length === 2);
  const other = await send(null, { base_model: 'two' });
  await until(allSucceeded(3));
  const ids = runs.map(({ id }) => id);
  expect(ids.slice(0, 3)).toEqual([first, second, other]);
  expect(ids.slice(3).sort()).toEqual([first, second].sort());
  expect(await store.getJob(first)).toMatchObject({ attempts: 2 });
  expect(await store.reconcile()).toEqual({ requeued: [], ended: [] });
});

test('a new job goes to the worker that has its base model in memory, and to another once that has gone', async () => {
  await store.close();
  // The moment for which a job is left to that worker never ends, however slow the machine is.
  const now = Date.now();
  store = createJobStore({ redis, prefix, clock: () => now });
  let release = () => {};
  const bothHold = new Promise<void>((resolve) => {
    release = resolve;
  });
  // A place is always free: what a worker has said is true also right after a job.
  const first = aWorker(() => bothHold, { jobsAtOnce: 2 });
  aWorker(() => bothHold, { jobsAtOnce: 2 });
  for (const base_model of ['one', 'two']) await send(null, { base_model });
  await until(() => runs.length === 2);
  release();
  await until(allSucceeded(2));
  const baseOf = async (id: JobId) => (await store.getJob(id))!.base_model;
  const workerOf = new Map<string, string>();
  for (const { id, worker } of runs) workerOf.set(await baseOf(id), worker);
  expect([...workerOf.values()].sort()).toEqual(['worker-1', 'worker-2']);
  await until(async () => (await store.queue.otherWarmWorkers('another')).length === 2);

  for (let i = 0; i < 8; i++) {
    await send(null, { base_model: i % 2 === 0 ? 'one' : 'two' });
    await until(allSucceeded(3 + i));
  }
  for (const { id, worker } of runs) expect(worker, `the worker of ${id}`).toBe(workerOf.get(await baseOf(id)));

  const [base] = [...workerOf].find(([, worker]) => worker === 'worker-1')!;
  await first.stop();
  queues.shift();
  await send(null, { base_model: base });
  await until(allSucceeded(11));
  expect(runs.at(-1)?.worker).toBe('worker-2');
});
