import { expect, test } from 'vitest';
import { nestsDeeperThan } from './nesting-depth.js';

const deeper = (limit: number, json: string) => nestsDeeperThan(limit, Buffer.from(json));

test('arrays and objects both count', () => {
  expect(deeper(3, '{"a":[{"b":1}],"c":[[1],[2]]}')).toBe(false);
  expect(deeper(2, '{"a":[{"b":1}]}')).toBe(true);
});

test('brackets within strings do not count, whatever their escapes', () => {
  expect(deeper(1, '{"a":"[[[[{{{{"}')).toBe(false);
  expect(deeper(1, String.raw`{"a":"\"[[","b":"\\"}`)).toBe(false);
  expect(deeper(1, String.raw`{"a":"\\",[[`)).toBe(true);
});

test('ten megabytes of brackets are detected at once', () => {
  const json = Buffer.alloc(10 * 2 ** 20, '[');
  const before = process.cpuUsage();
  expect(nestsDeeperThan(16, json)).toBe(true);
  // CPU time of this process, so that other load on the machine does not matter.
  expect(process.cpuUsage(before).user / 1000).toBeLessThan(100);
});
