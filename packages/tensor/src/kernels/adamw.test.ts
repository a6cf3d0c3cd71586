import { describe, expect, test } from 'vitest';
import { greatestDifference } from '../../../../test/numeric/greatest-difference.js';
import { scope } from '../tensor.js';
import { tensorOf, toFloat32Array, toNumber } from '../transfer.js';
import { rawAdamW, rawSquareSum } from './adamw.js';

const vector = (...values: number[]) => tensorOf(Float32Array.from(values), [values.length]);

/** The clipped gradient: without a running mean, it is the first moment. */
function clipped(gradient: number[], gradientScale: number, maxNorm: number | null): Float32Array {
  return scope(() => {
    const zeros = vector(...gradient.map(() => 0));
    const state = { parameters: zeros, first: zeros, second: zeros, rateFactors: null };
    const betas = { beta1: 0, beta2: 0, epsilon: 1e-8 };
    const step = { ...betas, gradientScale, maxNorm, learningRate: 1, weightDecay: 0, step: 1 };
    const given = vector(...gradient);
    return toFloat32Array(rawAdamW(state, given, rawSquareSum(given, gradientScale), step).first);
  });
}

describe('the gradient', () => {
  // torch.nn.utils.clip_grad_norm_ of (3, 4), torch 2.9.1.
  test.each([
    [1, [0.5999999046325684, 0.7999998331069946]],
    [10, [3, 4]],
    [null, [3, 4]],
  ])("clipped to %s is PyTorch's", (maxNorm, expected) => {
    expect(greatestDifference(clipped([3, 4], 1, maxNorm), expected)).toBeLessThan(1e-6);
    // The scaled gradient is what is clipped.
    expect(greatestDifference(clipped([6, 8], 0.5, maxNorm), expected)).toBeLessThan(1e-6);
  });

  test('the gradient of zeros stays', () => {
    expect([...clipped([0, 0], 1, 1)]).toEqual([0, 0]);
  });
});

test('a square sum is that of the scaled vector, and shows what is not finite', () => {
  scope(() => {
    expect(rawSquareSum(vector(3, 4), 1).shape).toEqual([1]);
    expect(toNumber(rawSquareSum(vector(3, 4), 0.5))).toBe(6.25);
    expect(toNumber(rawSquareSum(vector(1, Number.NaN), 1))).toBeNaN();
    expect(toNumber(rawSquareSum(vector(1e30, 1), 1))).toBe(Number.POSITIVE_INFINITY);
  });
});
