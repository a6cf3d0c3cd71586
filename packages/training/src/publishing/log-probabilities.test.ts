import { scope, tensorOf } from '@lorasmith/tensor';
import { expect, test } from 'vitest';
import { logProbabilities, rmsDifference, rmsSpread, topColumns } from './probe-run.js';

const matrix = (width: number, ...values: number[]) => ({ values: Float32Array.from(values), width });

test('probabilities of each row add up to 1, however large its numbers', () => {
  const logits = Float32Array.of(1, 2, 3, 1000, 1000, -1000);
  const found = scope(() => logProbabilities(tensorOf(logits, [2, 3])));
  expect(found.logits).toEqual({ values: logits, width: 3 });
  const { values, width } = found.logprobs;
  expect(width).toBe(3);
  for (const start of [0, 3]) {
    const sum = [...values.subarray(start, start + 3)].reduce((total, value) => total + Math.exp(value), 0);
    expect(sum).toBeCloseTo(1, 5);
  }
  expect(values[3]).toBeCloseTo(Math.log(0.5), 6);
});

test('differences and spread are root mean squares', () => {
  expect(rmsDifference(matrix(2, 1, 2, 3, 4), matrix(2, 1, 2, 3, 8))).toBe(2);
  expect(rmsDifference(matrix(1, 1), matrix(1, Number.NaN))).toBeNaN();
  expect(rmsSpread(matrix(2, 1, 3, 10, 20))).toBeCloseTo(Math.sqrt((1 + 1 + 25 + 25) / 4), 6);
});

test('the greatest entries of a row, greatest first', () => {
  const values = matrix(5, 9, 9, 9, 9, 9, 1, 5, 3, 4, 2);
  expect(topColumns(values, 1, 3)).toEqual([1, 3, 2]);
  expect(topColumns(values, 1, 9)).toEqual([1, 3, 2, 4, 0]);
});
