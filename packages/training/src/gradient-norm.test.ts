import { scope, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import { expect, test } from 'vitest';
import { greatestDifference } from '../../../test/numeric/greatest-difference.js';
import { clippingFactor, normOf, scaled } from './gradient-norm.js';

// torch.nn.utils.clip_grad_norm_ of (3, 4), torch 2.9.1.
test.each([
  [1, [0.5999999046325684, 0.7999998331069946]],
  [10, [3, 4]],
  [null, [3, 4]],
])("clipped to %s is PyTorch's", (maxNorm, expected) => {
  scope(() => {
    const gradient = tensorOf(Float32Array.of(3, 4), [2]);
    const norm = normOf(gradient);
    expect(norm).toBe(5);
    const clipped = toFloat32Array(scaled(gradient, clippingFactor(norm, maxNorm)));
    expect(greatestDifference(clipped, expected)).toBeLessThan(1e-6);
  });
});

test('a gradient of zeros stays', () => {
  expect(clippingFactor(0, 1)).toBe(1);
});

test('a norm that is not finite is seen', () => {
  scope(() => {
    expect(normOf(tensorOf(Float32Array.of(1, Number.NaN), [2]))).toBeNaN();
    expect(normOf(tensorOf(Float32Array.of(1e30, 1), [2]))).toBe(Number.POSITIVE_INFINITY);
  });
});
