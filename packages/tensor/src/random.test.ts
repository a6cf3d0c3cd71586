import { expect, test } from 'vitest';
import { scope } from './tensor.js';
import { randomUniform, toFloat32Array } from './transfer.js';

const drawn = (shape: number[], seed: [number, number]) => scope(() => toFloat32Array(randomUniform(shape, seed)));

test('the same seed gives the same numbers, whatever was drawn in between', () => {
  const first = drawn([4, 5], [7, 1]);
  drawn([100], [3, 3]);
  expect(drawn([4, 5], [7, 1])).toEqual(first);
});

test('the numbers are those of every engine, bit for bit', () => {
  expect([...drawn([2, 2], [7, 1])]).toEqual([
    0.040120720863342285, 0.5423469543457031, 0.4399822950363159, 0.9085369110107422,
  ]);
  const bits = new Int32Array(drawn([10_001], [-3, 2 ** 31 - 1]).buffer);
  expect(bits.reduce((hash, number) => Math.imul(hash ^ number, 16777619), 1)).toBe(-1089096527);
});

test('another seed in either place gives other numbers', () => {
  const first = drawn([20], [7, 1]);
  expect(drawn([20], [8, 1])).not.toEqual(first);
  expect(drawn([20], [7, 2])).not.toEqual(first);
});

test('uniform in [0, 1)', () => {
  const count = 100_000;
  const values = drawn([count], [1, 2]);
  expect(values.every((value) => value >= 0 && value < 1)).toBe(true);
  const mean = values.reduce((sum, value) => sum + value, 0) / count;
  const meanSquare = values.reduce((sum, value) => sum + value * value, 0) / count;
  // Their standard deviations are 0.0009: five of them.
  expect(Math.abs(mean - 1 / 2)).toBeLessThan(0.005);
  expect(Math.abs(meanSquare - 1 / 3)).toBeLessThan(0.005);
});
