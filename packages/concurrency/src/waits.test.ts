import { expect, test } from 'vitest';
import { Alarm, inTime, pause, untilAborted } from './waits.js';

const LONG_MS = 1e6;
const never = () => new Promise<never>(() => {});

test('work in time gives its result or error, late work what is said instead', async () => {
  expect(await inTime(Promise.resolve(7), LONG_MS, () => 'late')).toBe(7);
  await expect(inTime(Promise.reject(new Error('broken')), LONG_MS, () => 'late')).rejects.toThrow('broken');
  expect(await inTime(never(), 1, () => 'late')).toBe('late');
  const refuse = () => {
    throw new Error('too late');
  };
  await expect(inTime(never(), 1, refuse)).rejects.toThrow('too late');
});

test('work is not awaited once its signal is aborted', async () => {
  const ended = new AbortController();
  expect(await untilAborted(Promise.resolve(7), ended.signal)).toBe(7);
  const waiting = untilAborted(never(), ended.signal);
  ended.abort();
  expect(await waiting).toBeNull();
  expect(await untilAborted(never(), ended.signal)).toBeNull();
});

test('a pause ends at its time, or when its signal is aborted', async () => {
  const ended = new AbortController();
  const held = setTimeout(() => {}, LONG_MS);
  await pause(1, ended.signal);
  clearTimeout(held);
  const waiting = pause(LONG_MS, ended.signal);
  ended.abort();
  await waiting;
});

test('a wait ends when the alarm rings, at its time, or when its signal is aborted', async () => {
  const alarm = new Alarm();
  const rung = alarm.wait(null);
  alarm.ring();
  await rung;
  await alarm.wait(1);
  const ended = new AbortController();
  const aborted = alarm.wait(LONG_MS, ended.signal);
  ended.abort();
  await aborted;
  await alarm.wait(LONG_MS, ended.signal);
});

test('a ring without a wait ends the next wait, once, unless it is cleared', async () => {
  const alarm = new Alarm();
  alarm.ring();
  await alarm.wait(null);
  alarm.ring();
  alarm.clear();
  let isOver = false;
  const next = alarm.wait(null).then(() => {
    isOver = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  expect(isOver).toBe(false);
  alarm.ring();
  await next;
});
