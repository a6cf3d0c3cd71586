import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { NewJobEvent } from '@lorasmith/contracts';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { PoolOutcome, TrainOrder } from '../src/trainer/messages.js';
import type { PoolRunOptions } from '../src/trainer/pool-member.js';
import { DEFAULT_POOL_TIMES, TrainerPool } from '../src/trainer/trainer-pool.js';
import { startTrainer, type TrainerLimits, type TrainerProcess } from '../src/trainer/trainer-process.js';
import { aTrainOrder } from './a-train-order.js';
import { changedTrainer } from './changed-trainer.js';

const PROGRAM = fileURLToPath(new URL('fixtures/trainer.mjs', import.meta.url));
const LIMITS: TrainerLimits = {
  // More than a busy machine needs to start a process or to stop a training.
  silenceMs: 30_000,
  stopMs: { cancel: 30_000, shutdown: 30_000, 'time-limit': 30_000, 'lost-job': 30_000 },
  endMs: 2_000,
};

let folder: string;
let pool: TrainerPool;
let pools: TrainerPool[];
let lines: string[];

type PoolChanges = Partial<TrainerLimits> & {
  program?: string;
  idleMs?: number;
  recycleAfterMs?: number;
  change?: (process: TrainerProcess) => TrainerProcess;
};

const makePool = ({ change = (process) => process, ...changes }: PoolChanges = {}) => {
  const made = new TrainerPool({
    ...DEFAULT_POOL_TIMES,
    jobsAtOnce: 8,
    ...changes,
    start: () =>
      change(
        startTrainer({
          program: { file: changes.program ?? PROGRAM, environment: process.env },
          limits: { ...LIMITS, ...changes },
          onLine: (line) => lines.push(line),
        }),
      ),
  });
  pools.push(made);
  return made;
};

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-pool-'));
  lines = [];
  pools = [];
  pool = makePool();
});
afterEach(async () => {
  await Promise.all(pools.map((made) => made.close()));
  await rm(folder, { recursive: true, force: true });
});

const order = (behaviour: string, baseModel?: string) =>
  aTrainOrder(folder, 'job_0123456789abcdef01234567', behaviour, baseModel);

const run = (
  behaviour: string,
  options: { signal?: AbortSignal; model?: string; onEvent?: () => void } = {},
  events: NewJobEvent[] = [],
) =>
  runIn(pool, order(behaviour, options.model), {
    signal: options.signal ?? new AbortController().signal,
    onEvent: (event) => {
      events.push(event);
      options.onEvent?.();
    },
  });

const runIn = (on: TrainerPool, given: TrainOrder, options: PoolRunOptions) => on.add(given.spec).run(given, options);

const pidOf = (result: PoolOutcome) =>
  result.kind === 'finished' ? Number(result.outcome.versions.trainer) : expect.fail(JSON.stringify(result));

/** A trainer that says that it has trained 50 ms less than it has. */
const behind = (trainer: TrainerProcess): TrainerProcess =>
  changedTrainer(trainer, { trainedMs: () => Math.max(0, trainer.trainedMs - 50) });

const isAlive = (pid: number) => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

describe('a trainer', () => {
  test('reports its events in order, then its outcome', async () => {
    const events: NewJobEvent[] = [];
    const result = await run('finish', {}, events);
    expect(result).toMatchObject({ kind: 'finished', outcome: { base_model: { name: 'one' } } });
    expect(events.map(({ type }) => type)).toEqual(['report-ready', ...Array(200).fill('step-finished')]);
  });

  test('serves the next job on the same model; a job on another model replaces it', async () => {
    const started = pool.trainerPid;
    const first = pidOf(await run('finish'));
    // It was there before the job.
    expect(first).toBe(started);
    expect(pidOf(await run('finish'))).toBe(first);
    expect(pool.loadedModel).toBe('one');
    const second = pidOf(await run('finish', { model: 'two' }));
    expect(second).not.toBe(first);
    expect(isAlive(first)).toBe(false);
    await pool.close();
    expect([isAlive(second), pool.trainerPid]).toEqual([false, undefined]);
  });

  test('is replaced after a long idle time by one without a base model', async () => {
    pool = makePool({ idleMs: 100 });
    const pid = pidOf(await run('finish'));
    expect(isAlive(pid)).toBe(true);
    await expect.poll(() => isAlive(pid)).toBe(false);
    await expect.poll(() => pool.trainerPid).toBeDefined();
    const { trainerPid: next, loadedModel } = pool;
    expect(loadedModel).toBeNull();
    expect(pidOf(await run('finish', { model: 'two' }))).toBe(next);
  });

  test('a trainer that ended while it had no job is replaced at the next one', async () => {
    const pid = pool.trainerPid!;
    process.kill(pid, 'SIGKILL');
    await expect.poll(() => pool.trainerPid).toBeUndefined();
    expect(pidOf(await run('finish'))).not.toBe(pid);
  });

  test.each([
    { name: 'longer', change: undefined },
    // As when the machine is busy between the order and the beginning of its time.
    { name: 'longer, as a clock says that is behind,', change: behind },
  ])('is replaced during a job that takes $name than the lifetime of a trainer', async ({ change }) => {
    pool = makePool({ recycleAfterMs: 300, ...(change && { change }) });
    const events: NewJobEvent[] = [];
    const result = await run('stop-when-asked', {}, events);
    expect(result.kind).toBe('finished');
    expect(events.map(({ type }) => type)).toEqual([
      'report-ready',
      'step-finished',
      'checkpoint-saved',
      'report-ready',
    ]);
  });
});

describe('a trainer that is due for replacement during an evaluation', () => {
  test('finishes the evaluation, and another trainer continues', async () => {
    pool = makePool({ recycleAfterMs: 200 });
    const events: NewJobEvent[] = [];
    const result = await run('evaluate-long', {}, events);
    expect(result.kind).toBe('finished');
    const types = events.map(({ type }) => type);
    expect(types).toEqual(['report-ready', 'step-finished', 'evaluation-finished', 'checkpoint-saved', 'report-ready']);
  });

  test('receives a cancel meanwhile', async () => {
    pool = makePool({ recycleAfterMs: 200 });
    const stopping = new AbortController();
    const events: NewJobEvent[] = [];
    const onEvent = () => {
      const { type, data } = events.at(-1)!;
      if (type === 'step-finished' && data.step === 2) stopping.abort('cancel');
    };
    const result = await run('go-on', { signal: stopping.signal, onEvent }, events);
    expect(result).toEqual({ kind: 'stopped', reason: 'cancel' });
  });
});

describe('a failing trainer', () => {
  test.each([
    ['crash', 'trainer_crashed', 'SIGABRT'],
    ['exit', 'trainer_crashed', 'exit code 3. Its last line: something broke'],
    ['be-killed', 'out_of_memory', 'memory ran out'],
    ['lose-gpu', 'gpu_unavailable', 'no longer sees the GPU'],
  ])('%s', async (behaviour, code, words) => {
    const result = await run(behaviour);
    expect(result).toMatchObject({
      kind: 'failed',
      failure: { code, message: expect.stringContaining(words), details: [] },
    });
    expect((await run('finish')).kind).toBe('finished');
  });

  test('a failing trainer that is silent for too long is killed', async () => {
    pool = makePool({ silenceMs: 500 });
    expect(await run('hang')).toMatchObject({
      kind: 'failed',
      failure: { code: 'trainer_hung', message: expect.stringContaining('no sign of life for 0.5 s') },
    });
  });

  test('a failing trainer that cannot start is reported', async () => {
    pool = makePool({ program: path.join(folder, 'missing.js') });
    const result = await run('finish');
    expect(result).toMatchObject({ kind: 'failed', failure: { code: 'trainer_crashed' } });
    expect(lines.join('\n')).toContain('missing.js');
  });

  test('still serves the next job if the job was at fault', async () => {
    const pid = pidOf(await run('finish'));
    expect(await run('refuse')).toMatchObject({ kind: 'failed', failure: { code: 'non_finite_loss' } });
    expect(pidOf(await run('finish'))).toBe(pid);
  });
});

describe('a stop', () => {
  test.each(['cancel', 'shutdown', 'lost-job'] as const)('a stop by %s is obeyed', async (reason) => {
    const stopping = new AbortController();
    const result = await run('stop-when-asked', { signal: stopping.signal, onEvent: () => stopping.abort(reason) });
    expect(result).toEqual({ kind: 'stopped', reason });
    expect(await readdir(folder)).toEqual(reason === 'shutdown' ? ['step-1'] : []);
  });

  test('a stop that arrives before the trainer has started is obeyed too', async () => {
    expect(await run('stop-when-asked', { signal: AbortSignal.abort('cancel') })).toEqual({
      kind: 'stopped',
      reason: 'cancel',
    });
  });

  test.each(['ignore-stop', 'hang'])('a stop that a trainer does not obey (%s) kills it', async (behaviour) => {
    pool = makePool({ stopMs: { ...LIMITS.stopMs, cancel: 300 } });
    const stopping = new AbortController();
    const result = await run(behaviour, { signal: stopping.signal, onEvent: () => stopping.abort('cancel') });
    expect(result).toEqual({ kind: 'stopped', reason: 'cancel' });
    expect((await run('finish')).kind).toBe('finished');
  });

  test('a stop that arrives too late has no effect on the finished job', async () => {
    const stopping = new AbortController();
    const running = run('finish', { signal: stopping.signal });
    const result = await running;
    stopping.abort('cancel');
    expect(result.kind).toBe('finished');
  });
});

test('text waits for the trainer that replaces one which died before anything was asked of it', async () => {
  const first = pool.trainerPid!;
  process.kill(first, 'SIGKILL');
  await expect.poll(() => pool.trainerPid).toBeUndefined();
  const base = { baseModel: 'base', precision: 'float32', quantization: 'none' } as const;
  const lease = await pool.lease(base, new AbortController().signal);
  expect(lease?.process.pid).not.toBe(first);
  lease?.release();
});
