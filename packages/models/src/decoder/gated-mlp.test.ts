import { chooseKernels, scope, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import { describe, expect, test } from 'vitest';
import {
  centralDifferences,
  FINITE_DIFFERENCE_TOLERANCE,
  weightedSum,
} from '../../../../test/numeric/central-differences.js';
import { differenceByLargest, greatestDifference } from '../../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../../test/numeric/normal-numbers.js';
import { mlpActivation, mlpActivationGradient } from './feed-forward.js';

const kernels = chooseKernels('raw');

const [TOKENS, INTERMEDIATE] = [3, 5];
const WIDTH = 2 * INTERMEDIATE;
const GATE_UP = normalNumbers(TOKENS * WIDTH, 1);
const BY_OUTPUT = normalNumbers(TOKENS * INTERMEDIATE, 2);

describe.each([
  { gated: true, activation: 'silu' },
  { gated: true, activation: 'gelu_tanh' },
  { gated: false, activation: 'gelu_tanh' },
] as const)('an MLP with $activation, gated: $gated', (mlp) => {
  const width = mlp.gated ? WIDTH : INTERMEDIATE;
  const input = GATE_UP.slice(0, TOKENS * width);
  const inputOf = (values: Float32Array<ArrayBuffer>) => tensorOf(values, [TOKENS, width]);

  test('is the activation of the gate times up, or of up alone', () => {
    scope(() => {
      const output = toFloat32Array(mlpActivation(kernels, inputOf(input), mlp));
      const activated = toFloat32Array(kernels.of('float32').activation(inputOf(input), mlp.activation));
      const expected = Float32Array.from({ length: TOKENS * INTERMEDIATE }, (_, i) => {
        const place = Math.floor(i / INTERMEDIATE) * width + (i % INTERMEDIATE);
        return activated[place]! * (mlp.gated ? input[place + INTERMEDIATE]! : 1);
      });
      expect(greatestDifference(output, expected)).toBeLessThan(1e-6);
    });
  });

  test('has the gradient that finite differences have', () => {
    const numeric = centralDifferences((values) => {
      return scope(() => weightedSum(toFloat32Array(mlpActivation(kernels, inputOf(values), mlp)), BY_OUTPUT));
    }, input);
    const gradient = scope(() => {
      const byOutput = tensorOf(BY_OUTPUT, [TOKENS, INTERMEDIATE]);
      return toFloat32Array(mlpActivationGradient(kernels, byOutput, inputOf(input), mlp));
    });
    expect(differenceByLargest(gradient, numeric)).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
  });
});
