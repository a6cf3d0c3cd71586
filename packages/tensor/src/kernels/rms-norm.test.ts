import { describe, expect, test } from 'vitest';
import {
  centralDifferences,
  FINITE_DIFFERENCE_TOLERANCE,
  weightedSum,
} from '../../../../test/numeric/central-differences.js';
import { differenceByLargest, greatestDifference } from '../../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../../test/numeric/normal-numbers.js';
import { type FloatDType, liveTensorCount, scope, type Tensor } from '../tensor.js';
import { cast, tensorOf, toFloat32Array } from '../transfer.js';
import { rawAddRmsNorm, rawRmsNorm, rawRmsNormGradient } from './rms-norm.js';

const [TOKENS, HIDDEN] = [4, 6];
const EPSILON = 1e-5;
const X = normalNumbers(TOKENS * HIDDEN, 1);
const WEIGHT = normalNumbers(HIDDEN, 2);
const inputOf = (values: Float32Array<ArrayBuffer>): Tensor => tensorOf(values, [TOKENS, HIDDEN]);
const weightTensor = () => tensorOf(WEIGHT, [HIDDEN]);

test('x over the root of its mean square, times the weight', () => {
  const expected = X.map((value, i) => {
    const row = X.subarray(Math.floor(i / HIDDEN) * HIDDEN).subarray(0, HIDDEN);
    const meanSquare = row.reduce((sum, each) => sum + each * each, 0) / HIDDEN;
    return (value / Math.sqrt(meanSquare + EPSILON)) * WEIGHT[i % HIDDEN]!;
  });
  scope(() => {
    const { output, inverseRms } = rawRmsNorm(inputOf(X), weightTensor(), EPSILON, 'float32');
    expect(inverseRms.shape).toEqual([TOKENS, 1]);
    expect(greatestDifference(toFloat32Array(output), expected)).toBeLessThan(1e-6);
    expect(rawRmsNorm(inputOf(X), weightTensor(), EPSILON, 'bfloat16').output.dtype).toBe('bfloat16');
  });
});

test('a row of zeros stays zero', () => {
  const zeros = scope(() => {
    return toFloat32Array(rawRmsNorm(inputOf(X.map(() => 0)), weightTensor(), EPSILON, 'float32').output);
  });
  expect(zeros.every((value) => value === 0)).toBe(true);
});

test('a norm of a sum gives the sum, and the norm of it', () => {
  const branch = normalNumbers(X.length, 4);
  const sum = X.map((value, i) => value + branch[i]!);
  scope(() => {
    const actual = rawAddRmsNorm(inputOf(X), inputOf(branch), weightTensor(), EPSILON);
    const expected = rawRmsNorm(inputOf(sum), weightTensor(), EPSILON, 'float32');
    expect(greatestDifference(toFloat32Array(actual.sum), sum)).toBeLessThan(1e-6);
    expect(greatestDifference(toFloat32Array(actual.output), toFloat32Array(expected.output))).toBeLessThan(1e-6);
    expect(greatestDifference(toFloat32Array(actual.inverseRms), toFloat32Array(expected.inverseRms))).toBeLessThan(
      1e-6,
    );
  });
});

test('a branch in bfloat16 is added in float32, and the norm is rounded once', () => {
  scope(() => {
    const branch = cast(inputOf(normalNumbers(X.length, 4)), 'bfloat16');
    const actual = rawAddRmsNorm(inputOf(X), branch, weightTensor(), EPSILON);
    const expected = rawAddRmsNorm(inputOf(X), cast(branch, 'float32'), weightTensor(), EPSILON);
    expect(actual.sum.dtype).toBe('float32');
    expect(actual.output.dtype).toBe('bfloat16');
    expect(greatestDifference(toFloat32Array(actual.sum), toFloat32Array(expected.sum))).toBeLessThan(1e-6);
    expect(differenceByLargest(toFloat32Array(actual.output), toFloat32Array(expected.output))).toBeLessThan(2 ** -8);
  });
});

describe('its gradient', () => {
  const BY_OUTPUT = normalNumbers(X.length, 3);
  const gradient = (residual: Float32Array<ArrayBuffer> | null, dtype: FloatDType = 'float32') => {
    return scope(() => {
      const x = inputOf(X);
      const { inverseRms } = rawRmsNorm(x, weightTensor(), EPSILON, dtype);
      const byOutput = cast(inputOf(BY_OUTPUT), dtype);
      const past = residual && inputOf(residual);
      const { exact, rounded } = rawRmsNormGradient(byOutput, x, weightTensor(), inverseRms, past);
      expect(rounded.dtype).toBe(dtype);
      return { exact: toFloat32Array(exact), rounded: toFloat32Array(rounded) };
    });
  };

  test('against finite differences', () => {
    const numeric = centralDifferences((x) => {
      return scope(() => {
        return weightedSum(
          toFloat32Array(rawRmsNorm(inputOf(x), weightTensor(), EPSILON, 'float32').output),
          BY_OUTPUT,
        );
      });
    }, X);
    expect(differenceByLargest(gradient(null).exact, numeric)).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
  });

  test('the gradient of the branch past the norm is added', () => {
    const residual = normalNumbers(X.length, 5);
    const expected = gradient(null).exact.map((value, i) => value + residual[i]!);
    const { exact, rounded } = gradient(residual);
    expect(greatestDifference(exact, expected)).toBeLessThan(1e-6);
    expect([...rounded]).toEqual([...exact]);
  });

  test("is also given rounded to the model's dtype", () => {
    const { exact, rounded } = gradient(normalNumbers(X.length, 5), 'bfloat16');
    expect(differenceByLargest(rounded, exact)).toBeLessThan(2 ** -8);
    expect([...rounded]).not.toEqual([...exact]);
  });

  test('leaves no tensor alive', () => {
    gradient(null);
    const before = liveTensorCount();
    gradient(null);
    expect(liveTensorCount()).toBe(before);
  });
});
