import { access, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { EventData, EventType, NewJobEvent } from '@lorasmith/contracts';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { DEFAULT_POOL_TIMES, TrainerPool } from '../src/trainer/trainer-pool.js';
import { DEFAULT_TRAINER_LIMITS, startTrainer, type TrainerProcess } from '../src/trainer/trainer-process.js';
import { ROWS } from './a-dataset.js';
import { changedTrainer } from './changed-trainer.js';
import { aTinyTrainOrder, COMPILED_TRAINER, datasetOf } from './compiled-trainer.js';

// The compiled trainer.

let folder: string;
beforeEach(async () => {
  await access(COMPILED_TRAINER.file).catch(() => expect.fail('The worker is not compiled: run `pnpm build` first.'));
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-recycled-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const orderOf = (steps: number, rows?: string) => aTinyTrainOrder(folder, steps, rows);

function stepsOf<Kind extends EventType>(events: NewJobEvent[], kind: Kind): number[] {
  return events.filter(({ type }) => type === kind).map(({ data }) => (data as EventData<'checkpoint-saved'>).step);
}

const makePool = (changed: (started: TrainerProcess) => TrainerProcess = (started) => started) =>
  new TrainerPool({
    jobsAtOnce: 1,
    ...DEFAULT_POOL_TIMES,
    start: () => changed(startTrainer({ program: COMPILED_TRAINER, limits: DEFAULT_TRAINER_LIMITS, onLine: () => {} })),
  });

/** A trainer that is due for replacement as soon as it has a run, before it begins the first step. */
function dueAtOnce(started: TrainerProcess): TrainerProcess {
  let hasRun = false;
  const run: TrainerProcess['run'] = (order, options) => {
    hasRun = true;
    return started.run(order, { ...options, recycle: AbortSignal.abort() });
  };
  return changedTrainer(started, { run, trainedMs: () => (hasRun ? Number.POSITIVE_INFINITY : 0) });
}

test('trainers that are replaced at once run one step each, and no evaluation twice', async () => {
  const pool = makePool(dueAtOnce);
  const events: NewJobEvent[] = [];
  const order = await orderOf(3);
  const signal = new AbortController().signal;
  const result = await pool.add(order.spec).run(order, { signal, onEvent: (event) => events.push(event) });
  await pool.close();
  expect(result.kind).toBe('finished');
  expect(stepsOf(events, 'step-finished')).toEqual([1, 2, 3]);
  expect(stepsOf(events, 'checkpoint-loaded')).toEqual([1, 2, 3]);
  expect(stepsOf(events, 'evaluation-finished')).toEqual([0, 1, 2, 3]);
});

test('while rows are tokenized, their number is reported, and a stop is obeyed', async () => {
  const rows = Array.from({ length: 200_000 }, (_, i) => `{"text":"${i} ${(i * i).toString(36)} ${i * 7919}"}\n`).join(
    '',
  );
  const order = await orderOf(1, rows);
  const pool = makePool();
  const stopping = new AbortController();
  const events: NewJobEvent[] = [];
  const result = await pool.add(order.spec).run(order, {
    signal: stopping.signal,
    onEvent(event) {
      events.push(event);
      stopping.abort('cancel');
    },
  });
  // It stopped by itself: the next order is done by the same process.
  const pid = pool.trainerPid;
  const emptyLast = `${ROWS}{"text":""}\n`;
  await writeFile(order.paths.rowsFile, emptyLast);
  const dataset = datasetOf(emptyLast);
  const next = await pool
    .add(order.spec)
    .run({ ...order, dataset }, { signal: new AbortController().signal, onEvent: () => {} });
  const { trainerPid } = pool;
  await pool.close();
  expect(result).toEqual({ kind: 'stopped', reason: 'cancel' });
  expect([...new Set(events.map(({ type }) => type))]).toEqual(['tokenizing-progressed']);
  const { rows: done, total_rows: total } = events[0]!.data as EventData<'tokenizing-progressed'>;
  expect(done).toBeLessThan(total);
  expect(total).toBe(200_000);
  expect(next).toMatchObject({ kind: 'failed', failure: { code: 'no_trained_tokens', details: [{ line: 17 }] } });
  expect(trainerPid).toBe(pid);
});
