import { expect, test } from 'vitest';
import { nestsDeeperThan } from './nesting-depth.js';

test('arrays and objects both count', () => {
  expect(nestsDeeperThan(3, '{"a":[{"b":1}],"c":[[1],[2]]}')).toBe(false);
  expect(nestsDeeperThan(2, '{"a":[{"b":1}]}')).toBe(true);
});

test('brackets within strings do not count, whatever their escapes', () => {
  expect(nestsDeeperThan(1, '{"a":"[[[[{{{{"}')).toBe(false);
  expect(nestsDeeperThan(1, String.raw`{"a":"\"[[","b":"\\"}`)).toBe(false);
  expect(nestsDeeperThan(1, String.raw`{"a":"\\",[[`)).toBe(true);
  expect(nestsDeeperThan(1, String.raw`{"a":"\\\"[[","b":"[["}`)).toBe(false);
  expect(nestsDeeperThan(1, String.raw`{"a":"\\\\",[[`)).toBe(true);
  expect(nestsDeeperThan(1, '{"a":"[[')).toBe(false);
});

test('ten megabytes of brackets are detected at once', () => {
  const json = '['.repeat(10 * 2 ** 20);
  const before = process.cpuUsage();
  expect(nestsDeeperThan(16, json)).toBe(true);
  // CPU time of this process, so that other load on the machine does not matter.
  expect(process.cpuUsage(before).user / 1000).toBeLessThan(100);
});
