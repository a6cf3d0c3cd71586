import { Alarm } from '@lorasmith/concurrency';
import { expect, test } from 'vitest';
import { poll } from './polling.js';

const visible = async () => {};

test('reads until it is ended, also after an error, one reading at a time', async () => {
  const ended = new AbortController();
  const alarm = new Alarm();
  const seen: unknown[] = [];
  let running = 0;
  let readings = 0;
  await poll({
    alarm,
    signal: ended.signal,
    whenVisible: visible,
    async read() {
      running += 1;
      expect(running).toBe(1);
      await Promise.resolve();
      running -= 1;
      readings += 1;
      if (readings === 2) throw new Error('lost');
      return readings;
    },
    delayMs: () => 1,
    afterErrorMs: () => 1,
    onValue(value) {
      seen.push(value);
      if (value === 4) ended.abort();
    },
    onError: (error) => seen.push((error as Error).message),
  });
  expect(seen).toEqual([1, 'lost', 3, 4]);
});

test('without a delay it reads again only when the alarm rings, also if it rang during a reading', async () => {
  const ended = new AbortController();
  const alarm = new Alarm();
  const seen: number[] = [];
  await poll({
    alarm,
    signal: ended.signal,
    whenVisible: visible,
    async read() {
      if (seen.length === 0) alarm.ring();
      return seen.length;
    },
    delayMs: () => null,
    afterErrorMs: () => 1,
    onValue(value) {
      seen.push(value);
      if (value === 1) setTimeout(() => alarm.ring(), 1);
      if (value === 2) ended.abort();
    },
    onError: () => {},
  });
  expect(seen).toEqual([0, 1, 2]);
});

test('a reading that was ended reports nothing', async () => {
  const ended = new AbortController();
  const reported: unknown[] = [];
  await poll({
    alarm: new Alarm(),
    signal: ended.signal,
    whenVisible: visible,
    async read(signal) {
      ended.abort(new Error('left'));
      signal.throwIfAborted();
    },
    delayMs: () => 1,
    afterErrorMs: () => 1,
    onValue: (value) => reported.push(value),
    onError: (error) => reported.push(error),
  });
  expect(reported).toEqual([]);
});

test('failures are counted until a reading succeeds', async () => {
  const ended = new AbortController();
  const counted: number[] = [];
  let readings = 0;
  await poll({
    alarm: new Alarm(),
    signal: ended.signal,
    whenVisible: visible,
    async read() {
      readings += 1;
      if (readings !== 3) throw new Error('lost');
    },
    delayMs: () => 1,
    afterErrorMs(failures) {
      counted.push(failures);
      if (readings === 5) ended.abort();
      return 1;
    },
    onValue: () => {},
    onError: () => {},
  });
  expect(counted).toEqual([1, 2, 1, 2]);
});
