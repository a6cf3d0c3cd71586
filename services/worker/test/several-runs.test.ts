import { access, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { JobId, NewJobEvent } from '@lorasmith/contracts';
import type { StopReason } from '@lorasmith/training';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { PoolOutcome, RunOutcome, TrainerOrder } from '../src/trainer/messages.js';
import { DEFAULT_POOL_TIMES, TrainerPool, type TrainerPoolOptions } from '../src/trainer/trainer-pool.js';
import {
  DEFAULT_TRAINER_LIMITS,
  startTrainer,
  type TrainerLimits,
  type TrainerProcess,
  type TrainerRunOptions,
} from '../src/trainer/trainer-process.js';
import { aTrainOrder } from './a-train-order.js';

// A real process with the compiled child side of the protocol, whose runs wait.

const PROGRAM = fileURLToPath(new URL('fixtures/waiting-trainer.mjs', import.meta.url));
const COMPILED = fileURLToPath(new URL('../dist/trainer/serve-trainer.js', import.meta.url));
const FIRST = 'job_000000000000000000000001';
const SECOND = 'job_000000000000000000000002';

let folder: string;
let trainer: TrainerProcess;
let lines: { line: string; jobs: JobId[] }[];

const start = (limits: Partial<TrainerLimits> = {}) =>
  startTrainer({
    program: { file: PROGRAM, environment: process.env },
    limits: { ...DEFAULT_TRAINER_LIMITS, ...limits },
    onLine: (line, jobs) => lines.push({ line, jobs }),
  });

beforeEach(async () => {
  await access(COMPILED).catch(() => expect.fail('The worker is not compiled: run `pnpm build` first.'));
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-runs-'));
  lines = [];
  trainer = start();
});
afterEach(async () => {
  await trainer.end();
  await rm(folder, { recursive: true, force: true });
});

const order = (job: JobId, behaviour: string, baseModel?: string) => aTrainOrder(folder, job, behaviour, baseModel);

/** A trainer or a pool. */
interface RunsOrders {
  run(order: TrainerOrder, options: TrainerRunOptions): Promise<{ outcome: RunOutcome }>;
}

/** Starts a run, and resolves at its first event. */
async function begin(job: JobId, behaviour = 'wait', on: RunsOrders = trainer) {
  const stopping = new AbortController();
  const recycling = new AbortController();
  const events: NewJobEvent[] = [];
  let onFirst = () => {};
  const first = new Promise<void>((resolve) => {
    onFirst = resolve;
  });
  const ended = on.run(order(job, behaviour), {
    signal: stopping.signal,
    recycle: recycling.signal,
    onEvent: (event) => {
      events.push(event);
      onFirst();
    },
  });
  await first;
  return {
    result: ended.then(({ outcome }) => outcome),
    events,
    stop: (reason: StopReason) => stopping.abort(reason),
    recycle: () => recycling.abort(),
  };
}

const stepsOf = (events: NewJobEvent[]) => events.map(({ data }) => (data as { step: number }).step);

test('of two concurrent runs one is stopped and the other finishes, each with its own events and result', async () => {
  const first = await begin(FIRST);
  const second = await begin(SECOND);
  first.stop('cancel');
  expect(await first.result).toEqual({ kind: 'stopped', reason: 'cancel' });
  expect(trainer.usable).toBe(true);
  // The fixture ends its waiting runs when another run finishes.
  const third = await begin(FIRST, 'finish-all');
  expect(await third.result).toMatchObject({ kind: 'finished', outcome: { versions: { job: FIRST } } });
  expect(await second.result).toMatchObject({ kind: 'finished', outcome: { versions: { job: SECOND } } });
  expect([first, second, third].map(({ events }) => stepsOf(events))).toEqual([[1], [2], [3]]);
});

test('each run can be recycled separately', async () => {
  const first = await begin(FIRST);
  const second = await begin(SECOND);
  second.recycle();
  expect(await second.result).toEqual({ kind: 'recycled' });
  first.stop('shutdown');
  expect(await first.result).toEqual({ kind: 'stopped', reason: 'shutdown' });
});

test('one run fails and the other continues', async () => {
  const first = await begin(FIRST);
  const second = await begin(SECOND, 'fail');
  expect(await second.result).toMatchObject({ kind: 'failed', failure: { code: 'non_finite_loss' } });
  first.stop('time-limit');
  expect(await first.result).toEqual({ kind: 'stopped', reason: 'time-limit' });
});

test('a crash ends every run of the trainer, each with its failure', async () => {
  const first = await begin(FIRST);
  const second = await begin(SECOND, 'crash');
  const failure = { code: 'trainer_crashed', message: expect.stringContaining('Its last line: something broke') };
  expect(await first.result).toMatchObject({ kind: 'failed', failure });
  expect(await second.result).toMatchObject({ kind: 'failed', failure });
  expect(trainer.usable).toBe(false);
  expect(lines).toContainEqual({ line: 'something broke', jobs: [FIRST, SECOND] });
});

test('a pool shares its trainer among the runs of a base model, and a run of another model waits for their end', async () => {
  let started = 0;
  const pool = new TrainerPool({
    ...DEFAULT_POOL_TIMES,
    jobsAtOnce: 8,
    start: () => {
      started++;
      return start();
    },
  });
  try {
    const on: RunsOrders = {
      run: async (order, options) => ({ outcome: await pool.add(order.spec).run(order, options) }),
    };
    const first = await begin(FIRST, 'wait', on);
    const second = await begin(SECOND, 'wait', on);
    expect([started, pool.loadedModel]).toEqual([1, 'one']);
    const third = order(SECOND, 'finish-all', 'two');
    const other = pool.add(third.spec).run(third, {
      signal: new AbortController().signal,
      onEvent: () => {},
    });
    first.stop('cancel');
    await first.result;
    expect([started, pool.loadedModel]).toEqual([1, 'one']);
    second.stop('cancel');
    await second.result;
    expect(await other).toMatchObject({ kind: 'finished' });
    expect([started, pool.loadedModel]).toEqual([2, 'two']);
  } finally {
    await pool.close();
  }
});

describe('a pool with several runs', () => {
  const JOBS = [FIRST, SECOND, 'job_000000000000000000000003', 'job_000000000000000000000004'];
  let pool: TrainerPool;
  let started: number;
  const makePool = (changes: Partial<TrainerPoolOptions & TrainerLimits> = {}) => {
    started = 0;
    pool = new TrainerPool({
      ...DEFAULT_POOL_TIMES,
      jobsAtOnce: 8,
      start: () => {
        started++;
        return start(changes);
      },
      ...changes,
    });
  };
  beforeEach(() => makePool());
  afterEach(() => pool.close());

  interface PoolRun {
    result: Promise<PoolOutcome>;
    suspicions: (number | null)[];
    steps: number[];
    stop: (reason: StopReason) => void;
    pause: () => void;
  }
  /** The job of each step, in the order in which they were done. */
  let inOrder: JobId[];

  /** Starts a run for each behaviour, and resolves when all have done a step. */
  async function beginAll(behaviours: string[], suspectStep: number | null = null): Promise<PoolRun[]> {
    inOrder = [];
    const begun = behaviours.map((behaviour, index) => {
      const given = order(JOBS[index]!, behaviour);
      const stopping = new AbortController();
      const pausing = new AbortController();
      const suspicions: (number | null)[] = [];
      const steps: number[] = [];
      let onStep = () => {};
      const stepped = new Promise<void>((resolve) => {
        onStep = resolve;
      });
      const result = pool.add(given.spec).run(given, {
        signal: stopping.signal,
        pause: pausing.signal,
        suspectStep: index === 0 ? suspectStep : null,
        onSuspicion: async (step) => void suspicions.push(step),
        onEvent(event) {
          if (event.type !== 'step-finished') return;
          steps.push(event.data.step);
          inOrder.push(given.job);
          onStep();
        },
      });
      const run = {
        result,
        suspicions,
        steps,
        stop: (reason: StopReason) => stopping.abort(reason),
        pause: () => pausing.abort(),
      };
      return { run, stepped: Promise.race([stepped, result]) };
    });
    await Promise.all(begun.map(({ stepped }) => stepped));
    return begun.map(({ run }) => run);
  }
  const resultsOf = (runs: PoolRun[]) => Promise.all(runs.map(({ result }) => result));
  const finished = { kind: 'finished' };

  test('a pool with several runs that crash: each continues alone until the culprit is known, which alone fails', async () => {
    const runs = await beginAll(['step', 'step-crash 20', 'step']);
    expect(await resultsOf(runs)).toMatchObject([
      finished,
      { kind: 'failed', failure: { code: 'trainer_crashed' } },
      finished,
    ]);
    const [first, culprit, third] = runs.map(({ suspicions }) => suspicions);
    // The first one passed the step at which it was; the third never had its turn before the culprit was known.
    expect([first, third]).toEqual([
      [expect.any(Number), null],
      [expect.any(Number), null],
    ]);
    // Its next attempt is alone, too.
    expect(culprit).toEqual([20, 20]);
    // The crash of all, and the crash of the culprit.
    expect(started).toBe(3);
    expect(pool.capacity()).toMatchObject({ isIdle: true });
  });

  test('a pool with several runs that crash only together: all pass alone, and at the next crash the pool takes half as many', async () => {
    const runs = await beginAll(['step', 'step', 'step', 'step-crash-in-company 20']);
    const results = await resultsOf(runs);
    // Four are too many, and so are two, if the last one is among them; it is paused.
    expect(results.map(({ kind }) => kind)).toEqual(['finished', 'finished', 'paused', 'paused']);
    expect(runs.every(({ suspicions }) => suspicions.includes(null))).toBe(true);
    // Once it is empty, it takes as many as before.
    expect(pool.capacity()).toMatchObject({ isIdle: true });
  });

  test('a pool with several runs of which one hangs: all are suspected', async () => {
    await pool.close();
    // More than the time between two heartbeats.
    makePool({ silenceMs: 8_000 });
    const runs = await beginAll(['step', 'step-hang 5']);
    // It hangs again once both are together.
    expect(await resultsOf(runs)).toMatchObject([finished, { kind: 'paused' }]);
    expect(runs[0]!.suspicions.slice(0, 2)).toEqual([expect.any(Number), null]);
    expect(runs[1]!.suspicions.slice(0, 2)).toEqual([5, null]);
  });

  test('a pool with several runs of which one runs out of memory: it goes on alone, and the others in another trainer', async () => {
    const runs = await beginAll(['step', 'step-exhaust 10']);
    // So it does again once both are together.
    expect(await resultsOf(runs)).toMatchObject([finished, { kind: 'paused' }]);
    expect(runs.map(({ suspicions }) => suspicions)).toEqual([[], [10, null, 11]]);
  });

  test('a suspect of an earlier worker is alone until it has passed its step', async () => {
    const runs = await beginAll(['step', 'step'], 30);
    expect(await resultsOf(runs)).toMatchObject([finished, finished]);
    expect(runs[0]!.suspicions).toEqual([null]);
    expect(inOrder.slice(0, 31)).toEqual(Array(31).fill(FIRST));
    expect(inOrder.slice(31, 80)).toContain(SECOND);
  });

  test('a pool with several runs that do not stop in time are killed, and the others continue', async () => {
    await pool.close();
    makePool({ stopMs: { ...DEFAULT_TRAINER_LIMITS.stopMs, cancel: 200 } });
    const runs = await beginAll(['step', 'step-ignore 1']);
    runs[1]!.stop('cancel');
    expect(await resultsOf(runs)).toMatchObject([finished, { kind: 'stopped', reason: 'cancel' }]);
    expect(runs[0]!.suspicions).toEqual([]);
  });

  test('a pool with several runs that are paused have a checkpoint, and can be taken again', async () => {
    const runs = await beginAll(['step', 'step']);
    for (const { pause } of runs) pause();
    expect(await resultsOf(runs)).toEqual([{ kind: 'paused' }, { kind: 'paused' }]);
    const again = await beginAll(['step', 'step']);
    expect(await resultsOf(again)).toMatchObject([finished, finished]);
    expect(again[0]!.steps[0]).toBe(runs[0]!.steps.at(-1)! + 1);
  });

  test('a pool with several runs of which one cannot begin beside the others: it is deferred, and no other is taken until one has ended', async () => {
    const runs = await beginAll(['step', 'step-alone']);
    expect(await runs[1]!.result).toEqual({ kind: 'deferred', why: 'it is too large' });
    expect(pool.capacity()).toBeNull();
    await runs[0]!.result;
    expect(pool.capacity()).toEqual({ isIdle: true, baseModel: 'one', precisions: ['auto'], quantization: 'none' });
  });

  test('takes what shares its base model and precision, up to the limit', async () => {
    await pool.close();
    makePool({ jobsAtOnce: 2, precisionOf: (setting) => (setting === 'auto' ? 'bfloat16' : setting) });
    expect(pool.capacity()).toEqual({ isIdle: true, baseModel: null, precisions: [], quantization: 'none' });
    const member = pool.add({ base_model: 'one', training: { precision: 'auto', base_quantization: 'none' } });
    expect(pool.capacity()).toEqual({
      isIdle: false,
      baseModel: 'one',
      precisions: ['auto', 'bfloat16'],
      quantization: 'none',
    });
    let changes = 0;
    pool.onChange(() => changes++);
    const other = pool.add({ base_model: 'one', training: { precision: 'bfloat16', base_quantization: 'none' } });
    expect(pool.capacity()).toBeNull();
    other.leave();
    expect(changes).toBeGreaterThan(0);
    expect(pool.capacity()).toMatchObject({ isIdle: false });
    member.leave();
    expect(pool.capacity()).toMatchObject({ isIdle: true });
  });

  test('a conversation keeps the trainer, and is refused where it would stand in the way of a job', async () => {
    const { signal } = new AbortController();
    expect(pool.generatableModel()).toEqual({ baseModel: null });
    const base = (baseModel: string) => ({ baseModel, precision: 'auto' as const, quantization: 'none' as const });
    const lease = (await pool.lease(base('two'), signal))!;
    expect(pool.generatableModel()).toEqual({ baseModel: 'two' });
    expect(await pool.lease(base('one'), signal)).toBeNull();
    const running = beginAll(['step']);
    await expect.poll(() => pool.generatableModel()).toBeNull();
    expect(started).toBe(1);
    lease.release();
    const [run] = await running;
    expect(pool.generatableModel()).toEqual({ baseModel: 'one' });
    (await pool.lease(base('one'), signal))!.release();
    expect(await run!.result).toMatchObject(finished);
    expect(started).toBe(2);
  });
});
