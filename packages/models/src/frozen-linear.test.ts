import { chooseKernels, scope, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import { expect, test } from 'vitest';
import {
  centralDifferences,
  FINITE_DIFFERENCE_TOLERANCE,
  weightedSum,
} from '../../../test/numeric/central-differences.js';
import { differenceByLargest, greatestDifference } from '../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../test/numeric/normal-numbers.js';
import { DenseLinear } from './frozen-linear.js';

const kernels = chooseKernels('raw');

test('the worked numbers of a plain layer', () => {
  scope(() => {
    const weight = tensorOf(Float32Array.of(0.1, 0.2, 0.3, 0.4, 0.5, 0.6), [2, 3]);
    const layer = new DenseLinear(kernels, weight, tensorOf(Float32Array.of(0.7, 0.8), [2]));
    const output = layer.forward(tensorOf(Float32Array.of(1, 2, 3), [1, 3]));
    expect(output.shape).toEqual([1, 2]);
    expect(greatestDifference(toFloat32Array(output), [2.1, 4.0])).toBeLessThan(1e-6);
  });
});

test.each(['with a bias', 'without one'])('gradient of a frozen layer %s against finite differences', (bias) => {
  const [tokens, inFeatures, outFeatures] = [3, 4, 5];
  const x = normalNumbers(tokens * inFeatures, 1);
  const byOutput = normalNumbers(tokens * outFeatures, 2);
  scope(() => {
    const weight = tensorOf(normalNumbers(outFeatures * inFeatures, 3), [outFeatures, inFeatures]);
    const own = bias === 'with a bias' ? tensorOf(normalNumbers(outFeatures, 4), [outFeatures]) : null;
    const layer = new DenseLinear(kernels, weight, own);
    const numeric = centralDifferences((input) => {
      return scope(() => {
        const output = layer.forward(tensorOf(input, [tokens, inFeatures]));
        return weightedSum(toFloat32Array(output), byOutput);
      });
    }, x);
    const gradient = layer.backwardInput(tensorOf(byOutput, [tokens, outFeatures]));
    expect(gradient.shape).toEqual([tokens, inFeatures]);
    expect(differenceByLargest(toFloat32Array(gradient), numeric)).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
  });
});

test('rows of weight and bias are those of the layers that lie there', () => {
  scope(() => {
    const weight = tensorOf(Float32Array.of(1, 2, 3, 4, 5, 6), [3, 2]);
    const layer = new DenseLinear(kernels, weight, tensorOf(Float32Array.of(7, 8, 9), [3]));
    expect([...toFloat32Array(layer.weightRows(1, 2))]).toEqual([3, 4, 5, 6]);
    expect([...toFloat32Array(layer.biasRows(1, 2)!)]).toEqual([8, 9]);
    expect(new DenseLinear(kernels, weight, null).biasRows(1, 2)).toBeNull();
  });
});
