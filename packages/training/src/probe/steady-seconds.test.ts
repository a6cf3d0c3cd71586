import { expect, test } from 'vitest';
import { steadySeconds } from './steady-seconds.js';

test('runs that warm up do not count, nor does one that something else delayed', () => {
  let time = 0n;
  let runs = 0;
  const run = () => {
    runs++;
    const isDelayed = runs === 7;
    time += isDelayed ? 9_000_000_000n : runs <= 5 ? 3_000_000_000n : 1_000_000_000n;
  };
  expect(steadySeconds(run, { warmUps: 5, repeats: 3, now: () => time })).toBe(1);
  expect(runs).toBe(8);
});
