import type { NewJobEvent } from '@lorasmith/contracts';
import { describe, expect, test } from 'vitest';
import { createEventRecorder } from './event-recorder.js';

const step = (number: number): NewJobEvent => ({
  type: 'step-finished',
  data: {
    step: number,
    total_steps: 100,
    epoch: 0,
    loss: 1,
    accuracy: 0.5,
    learning_rate: 1e-4,
    grad_norm: 1,
    tokens_per_second: 1,
    seconds_left: 1,
  },
});
const saved = (number: number): NewJobEvent => ({ type: 'checkpoint-saved', data: { step: number } });

/** Numbers of the steps that are written, and types of the other events. */
async function writtenOf(events: readonly NewJobEvent[], stepIntervalMs: number) {
  const written: (number | string)[] = [];
  const recorder = createEventRecorder({
    write: async ({ type, data }) => {
      written.push(type === 'step-finished' ? data.step : type);
    },
    onError: (error) => {
      throw error;
    },
    stepIntervalMs,
  });
  for (const event of events) recorder.add(event);
  await recorder.flush();
  await recorder.flush();
  return written;
}

describe('of steps that follow each other within the interval', () => {
  test('the first and the last are written, however many the job had planned', async () => {
    expect(await writtenOf([step(1), step(2), step(3), step(4)], 60_000)).toEqual([1, 4]);
    expect(await writtenOf([step(1)], 60_000)).toEqual([1]);
  });

  test('the last before another event is written, once and before it', async () => {
    const events = [step(1), step(2), step(3), saved(3), saved(3), step(4), step(5), saved(5)];
    const expected = [1, 3, 'checkpoint-saved', 'checkpoint-saved', 5, 'checkpoint-saved'];
    expect(await writtenOf(events, 60_000)).toEqual(expected);
  });
});

test('steps that take longer than the interval are all written', async () => {
  expect(await writtenOf([step(1), step(2), saved(2), step(3)], 0)).toEqual([1, 2, 'checkpoint-saved', 3]);
});

test('the steps of a day of training are fewer events than the service keeps', async () => {
  let seconds = 0;
  const written: number[] = [];
  const recorder = createEventRecorder({
    write: async ({ type, data }) => {
      if (type === 'step-finished') written.push(data.step);
    },
    onError: (error) => {
      throw error;
    },
    now: () => 1000 * seconds,
  });
  for (; seconds < 24 * 3600; seconds += 1) recorder.add(step(1000 + seconds));
  await recorder.flush();
  expect(written.length).toBeGreaterThan(10_000);
  expect(written.length).toBeLessThan(15_000);
  // All of the first ones, as each takes a second.
  expect(written.slice(0, 1000)).toEqual(Array.from({ length: 1000 }, (_, i) => 1000 + i));
});

test('an event that cannot be written is reported, and those after it are written', async () => {
  const errors: unknown[] = [];
  const written: string[] = [];
  const recorder = createEventRecorder({
    write: async ({ type }) => {
      if (type === 'step-finished') throw new Error('no Redis');
      written.push(type);
    },
    onError: (error) => errors.push(error),
  });
  recorder.add(step(1));
  recorder.add(saved(1));
  await recorder.flush();
  expect(errors).toEqual([new Error('no Redis')]);
  expect(written).toEqual(['checkpoint-saved']);
});
