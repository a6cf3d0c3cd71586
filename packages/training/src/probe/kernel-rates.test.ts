import { expect, test } from 'vitest';
import { steadySeconds } from './kernel-rates.js';

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

test('the shortest run counts where most are disturbed', () => {
  let time = 0n;
  let runs = 0;
  const run = () => {
    time += ++runs === 4 ? 1_000_000_000n : 9_000_000_000n;
  };
  expect(steadySeconds(run, { warmUps: 1, repeats: 5, quantile: 0, now: () => time })).toBe(1);
});

test('short runs are repeated until they took the time that is wanted', () => {
  let time = 0n;
  let runs = 0;
  const run = () => {
    // The first are faster than all that follow.
    time += ++runs <= 6 ? 10_000_000n : 20_000_000n;
  };
  expect(steadySeconds(run, { warmUps: 1, repeats: 5, leastSeconds: 0.4, now: () => time })).toBe(0.02);
  // 5 of 10 ms, and as many of 20 ms as make 400 ms.
  expect(runs).toBe(1 + 5 + 18);
});
