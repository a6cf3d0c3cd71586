import { expect, test } from 'vitest';
import {
  type ChartLine,
  chartTable,
  interpolation,
  lineText,
  numberText,
  positionText,
  smoothed,
} from './chart-values.js';

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

const line = (steps: number[], values: number[]): ChartLine => ({ label: 'loss', color: 1, steps, values });

test('a line in a sentence', () => {
  expect(lineText(line([], []))).toBe('loss: no values yet.');
  expect(lineText(line([1], [2]))).toBe('loss: 2 at step 1.');
  expect(lineText(line([1, 2, 3], [2, 0.5, 1]))).toBe('loss: from 2 at step 1 to 1 at step 3; lowest 0.5 at step 2.');
});

test('a table has the first and the last step, and the last value of each line until then', () => {
  const steps = Array.from({ length: 100 }, (_, i) => i + 1);
  const table = chartTable([line(steps, steps), line([50, 100], [7, 8])], 5);
  expect(table.steps).toEqual([1, 26, 51, 75, 100]);
  expect(table.values).toEqual([
    [1, 26, 51, 75, 100],
    [null, null, 7, 7, 8],
  ]);
  expect(chartTable([], 5)).toEqual({ steps: [], values: [] });
  expect(chartTable([line([3], [1])], 5)).toEqual({ steps: [3], values: [[1]] });
});

test.each([
  [0, '0'],
  [0.0001, '1e-4'],
  [0.000_012_34, '1.23e-5'],
  [0.412_345, '0.4123'],
  [12.3456, '12.35'],
  [12_345.6, '12,346'],
  [1.5e8, '1.5e8'],
  [-2.5, '-2.5'],
])('%s is %s', (value, text) => {
  expect(numberText(value)).toBe(text);
});

test.each([
  ['step', 12345, '12,345'],
  ['tokens', 950, '950'],
  ['tokens', 12_345, '12.3k'],
  ['tokens', 1_234_567, '1.23M'],
  ['time', 75, '1 min 15 s'],
] as const)('%s %d is %s', (name, position, text) => {
  expect(positionText(name, position)).toBe(text);
});
