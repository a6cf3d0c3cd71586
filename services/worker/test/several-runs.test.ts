import { access, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { JobId, NewJobEvent } from '@lorasmith/contracts';
import type { StopReason } from '@lorasmith/training';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createTrainerPool, DEFAULT_POOL_TIMES } from '../src/trainer/trainer-pool.js';
import { DEFAULT_TRAINER_LIMITS, startTrainer, type TrainerProcess } from '../src/trainer/trainer-process.js';
import { aTrainOrder } from './a-train-order.js';

// A real process with the compiled child side of the protocol, whose runs wait.

const PROGRAM = fileURLToPath(new URL('fixtures/waiting-trainer.mjs', import.meta.url));
const COMPILED = fileURLToPath(new URL('../dist/trainer/serve-trainer.js', import.meta.url));
const FIRST = 'job_000000000000000000000001';
const SECOND = 'job_000000000000000000000002';

let folder: string;
let trainer: TrainerProcess;
let lines: { line: string; jobs: JobId[] }[];

const start = () =>
  startTrainer({
    program: { file: PROGRAM, environment: process.env },
    limits: DEFAULT_TRAINER_LIMITS,
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

/** Starts a run, and resolves at its first event. */
async function begin(job: JobId, behaviour = 'wait', on: Pick<TrainerProcess, 'run'> = trainer) {
  const stopping = new AbortController();
  const recycling = new AbortController();
  const events: NewJobEvent[] = [];
  let onFirst = () => {};
  const first = new Promise<void>((resolve) => {
    onFirst = resolve;
  });
  const result = on.run(order(job, behaviour), {
    signal: stopping.signal,
    recycle: recycling.signal,
    onEvent: (event) => {
      events.push(event);
      onFirst();
    },
  });
  await first;
  return { result, events, stop: (reason: StopReason) => stopping.abort(reason), recycle: () => recycling.abort() };
}

const stepsOf = (events: NewJobEvent[]) => events.map(({ data }) => (data as { step: number }).step);

test('of two concurrent runs one is stopped and the other finishes, each with its own events and result', async () => {
  const first = await begin(FIRST);
  const second = await begin(SECOND);
  first.stop('cancel');
  expect(await first.result).toEqual({ type: 'stopped', reason: 'cancel' });
  expect(trainer.usable).toBe(true);
  // The fixture ends its waiting runs when another run finishes.
  const third = await begin(FIRST, 'finish-all');
  expect(await third.result).toMatchObject({ type: 'finished', outcome: { versions: { job: FIRST } } });
  expect(await second.result).toMatchObject({ type: 'finished', outcome: { versions: { job: SECOND } } });
  expect([first, second, third].map(({ events }) => stepsOf(events))).toEqual([[1], [2], [3]]);
});

test('each run can be recycled separately', async () => {
  const first = await begin(FIRST);
  const second = await begin(SECOND);
  second.recycle();
  expect(await second.result).toEqual({ type: 'recycled' });
  first.stop('shutdown');
  expect(await first.result).toEqual({ type: 'stopped', reason: 'shutdown' });
});

test('one run fails and the other continues', async () => {
  const first = await begin(FIRST);
  const second = await begin(SECOND, 'fail');
  expect(await second.result).toMatchObject({ type: 'failed', failure: { code: 'non_finite_loss' } });
  first.stop('time-limit');
  expect(await first.result).toEqual({ type: 'stopped', reason: 'time-limit' });
});

test('a crash ends every run of the trainer, each with its failure', async () => {
  const first = await begin(FIRST);
  const second = await begin(SECOND, 'crash');
  const failure = { code: 'trainer_crashed', message: expect.stringContaining('Its last line: something broke') };
  expect(await first.result).toMatchObject({ type: 'failed', failure });
  expect(await second.result).toMatchObject({ type: 'failed', failure });
  expect(trainer.usable).toBe(false);
  expect(lines).toContainEqual({ line: 'something broke', jobs: [FIRST, SECOND] });
});

test('a pool shares its trainer among the runs of a base model, and a run of another model waits for their end', async () => {
  let started = 0;
  const pool = createTrainerPool({
    ...DEFAULT_POOL_TIMES,
    start: () => {
      started++;
      return start();
    },
  });
  try {
    const on = { run: pool.run as TrainerProcess['run'] };
    const first = await begin(FIRST, 'wait', on);
    const second = await begin(SECOND, 'wait', on);
    expect([started, pool.loadedModel]).toEqual([1, 'one']);
    const other = pool.run(order(SECOND, 'finish-all', 'two'), {
      signal: new AbortController().signal,
      onEvent: () => {},
    });
    first.stop('cancel');
    await first.result;
    expect([started, pool.loadedModel]).toEqual([1, 'one']);
    second.stop('cancel');
    await second.result;
    expect(await other).toMatchObject({ type: 'finished' });
    expect([started, pool.loadedModel]).toEqual([2, 'two']);
  } finally {
    await pool.close();
  }
});
