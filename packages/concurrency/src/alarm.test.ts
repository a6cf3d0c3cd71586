import { expect, test } from 'vitest';
import { Alarm } from './alarm.js';

const LONG_MS = 1e6;

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
