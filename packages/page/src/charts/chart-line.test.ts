import { expect, test } from 'vitest';
import { interpolation, smoothed } from './chart-line.js';

test('a step between known ones is between their positions, and one outside is at the nearest', () => {
  const at = interpolation([2, 4, 10], [20, 60, 120]);
  expect([0, 1, 2, 3, 4, 7, 10, 11].map(at)).toEqual([0, 10, 20, 40, 60, 90, 120, 120]);
  expect(interpolation([], [])(5)).toBe(0);
});

test('a smoothed line begins at the first value, keeps a constant, and follows slowly', () => {
  expect(smoothed([3, 3, 3], 0.9).map((value) => Number(value.toFixed(9)))).toEqual([3, 3, 3]);
  expect(smoothed([1, 2], 0)).toEqual([1, 2]);
  const [first, second] = smoothed([0, 1], 0.5);
  expect(first).toBe(0);
  expect(second).toBeCloseTo(2 / 3, 12);
});
