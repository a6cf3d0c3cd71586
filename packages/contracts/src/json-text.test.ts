import { expect, test } from 'vitest';
import { nestsDeeperThan } from './json-text.js';

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

test('ten megabytes take linear time', () => {
  // A search from each bracket would not end within the time limit of a test.
  expect(nestsDeeperThan(16, '['.repeat(10 * 2 ** 20))).toBe(true);
  expect(nestsDeeperThan(16, '[]'.repeat(5 * 2 ** 20))).toBe(false);
});
