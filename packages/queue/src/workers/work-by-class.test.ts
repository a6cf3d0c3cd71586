import { expect, test } from 'vitest';
import type { QueueEntry } from '../queue/queue-entry.js';
import type { RemainingWork } from '../queue/queue-forecast.js';
import { workByClass } from './work-by-class.js';

const GIGABYTE = 1e9;
const CLASSES = [
  { name: 'small', memory: 24 * GIGABYTE },
  { name: 'large', memory: 80 * GIGABYTE },
];
const OPTIONS = { classes: CLASSES, secondsPerWorker: 1_000, slots: 4 };

function job(changes: Partial<QueueEntry & Pick<RemainingWork, 'workerClass'>> = {}): RemainingWork {
  const { workerClass = null, ...rest } = changes;
  const entry: QueueEntry = {
    key: '',
    base_model: 'one',
    precision: 'auto',
    base_quantization: 'none',
    place: 1,
    queued_at: 0,
    tokens: 5_000,
    seconds: 500,
    memory: 10 * GIGABYTE,
    ...rest,
  };
  return { entry, workerClass, tokens: entry.tokens, seconds: entry.seconds };
}
const wanted = (...jobs: RemainingWork[]) =>
  Object.fromEntries([...workByClass(jobs, OPTIONS)].map(([name, { workersWanted }]) => [name, workersWanted]));

test('work is counted for the first class that it fits into, in jobs, tokens and seconds', () => {
  const jobs = [job(), job({ seconds: 250, tokens: 2_000 }), job({ memory: 60 * GIGABYTE }), job({ memory: null })];
  const found = workByClass([...jobs, job({ workerClass: 'large', seconds: 100 })], OPTIONS);
  expect(found.get('small')).toEqual({
    waiting: { jobs: 3, tokens: 12_000, seconds: 1_250 },
    running: { jobs: 0, tokens: 0, seconds: 0 },
    workersWanted: 1.25,
  });
  // What a class trains is its work, although a smaller one would do.
  expect(found.get('large')).toEqual({
    waiting: { jobs: 1, tokens: 5_000, seconds: 500 },
    running: { jobs: 1, tokens: 5_000, seconds: 100 },
    workersWanted: 0.6,
  });
});

test('a class whose cards are too small for all that waits is not wanted', () => {
  expect(wanted(job({ memory: 30 * GIGABYTE }), job({ memory: 79 * GIGABYTE }))).toEqual({ small: 0, large: 1 });
  expect(wanted(job({ memory: 100 * GIGABYTE }))).toEqual({ small: 0, large: 0 });
  expect(wanted()).toEqual({ small: 0, large: 0 });
});

test('a job wants one worker at most, however long it takes, and one until it has ended', () => {
  expect(wanted(job({ seconds: 1_000_000 }))).toEqual({ small: 1, large: 0 });
  expect(wanted(job({ seconds: 1_000_000 }), job({ seconds: 1_000_000 }))).toEqual({ small: 2, large: 0 });
  expect(wanted(job({ seconds: 0, workerClass: 'small' })).small).toBeGreaterThan(0);
});

test('short jobs on several base models share a worker, which takes one base after the other', () => {
  const jobs = ['one', 'two', 'three'].map((base_model) => job({ base_model, seconds: 100 }));
  expect(wanted(...jobs).small).toBeCloseTo(0.3);
});

test('jobs of unknown length want a worker for as many as it trains at once, of each base model and form', () => {
  const unknown = (changes: Partial<QueueEntry> = {}) => job({ seconds: null, tokens: null, ...changes });
  expect(wanted(unknown(), unknown(), unknown(), unknown()).small).toBe(1);
  expect(wanted(unknown(), unknown(), unknown(), unknown(), unknown()).small).toBe(2);
  expect(wanted(unknown(), unknown({ base_model: 'two' })).small).toBe(2);
  expect(wanted(unknown(), unknown({ base_quantization: 'nf4' })).small).toBe(2);
});

test('what runs on a worker without a class is counted as what waits is', () => {
  expect(wanted(job({ workerClass: '' }), job({ workerClass: 'gone' }))).toEqual({ small: 1, large: 0 });
});
