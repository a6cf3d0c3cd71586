import { describe, expect, test } from 'vitest';
import {
  centralDifferences,
  FINITE_DIFFERENCE_TOLERANCE,
  weightedSum,
} from '../../../../test/numeric/central-differences.js';
import { differenceByLargest, greatestDifference } from '../../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../../test/numeric/normal-numbers.js';
import { scope, type Tensor } from '../tensor.js';
import { cast, tensorOf, toFloat32Array } from '../transfer.js';
import type { Activation } from './activation.js';
import { chooseKernels, type KernelSet } from './kernel-table.js';

const activate = (kernels: KernelSet, x: Tensor, activation: Activation) =>
  kernels.of(x.dtype).activation(x, activation);
const activationGradient = (kernels: KernelSet, gradient: Tensor, x: Tensor, activation: Activation) =>
  kernels.of(x.dtype).activationGradient(gradient, x, activation);

// torch.nn.functional.<name> of these inputs, in float64; relu2 and quick_gelu as transformers' ACT2FN has them.
const INPUTS = Float32Array.of(-3, -1, -0.25, 0, 0.5, 2);
const OUTPUTS: Record<Activation, number[]> = {
  relu: [0, 0, 0, 0, 0.5, 2],
  sigmoid: [0.04742587317756678, 0.2689414213699951, 0.43782349911420193, 0.5, 0.6224593312018546, 0.8807970779778823],
  tanh: [-0.9950547536867305, -0.7615941559557649, -0.24491866240370913, 0, 0.46211715726000974, 0.9640275800758169],
  silu: [-0.14227761953270035, -0.2689414213699951, -0.10945587477855048, 0, 0.3112296656009273, 1.7615941559557646],
  relu2: [0, 0, 0, 0, 0.25, 4],
  gelu_tanh: [
    -0.0036373920817729943, -0.15880800939172324, -0.100324649298315, 0, 0.34571400982514394, 1.954597694087775,
  ],
  quick_gelu: [
    -0.01807130970778597, -0.1542042340671787, -0.09880035009980583, 0, 0.35038843660638014, 1.9356586231442083,
  ],
  gelu: [-0.00404969409489031, -0.15865525393145702, -0.10032341857926907, 0, 0.34573123063700656, 1.9544997361036416],
};

const CASES = (Object.keys(OUTPUTS) as Activation[]).flatMap((activation) => [
  { activation, kernels: 'raw' as const },
  { activation, kernels: 'fused' as const },
]);

describe.each(CASES)('$activation, $kernels', ({ activation, kernels: source }) => {
  const kernels = chooseKernels(source);

  test("is PyTorch's", () => {
    const outputs = scope(() => toFloat32Array(activate(kernels, tensorOf(INPUTS, [2, 3]), activation)));
    expect(greatestDifference(outputs, OUTPUTS[activation])).toBeLessThan(1e-6);
  });

  test('has the gradient that finite differences have', () => {
    // None within a step of 0, where relu has a corner.
    const x = normalNumbers(40, 5).map((value) => value + 0.05 * Math.sign(value));
    const byOutput = normalNumbers(40, 6);
    const numeric = centralDifferences((input) => {
      return scope(() => weightedSum(toFloat32Array(activate(kernels, tensorOf(input, [5, 8]), activation)), byOutput));
    }, x);
    const gradient = scope(() => {
      return toFloat32Array(activationGradient(kernels, tensorOf(byOutput, [5, 8]), tensorOf(x, [5, 8]), activation));
    });
    expect(differenceByLargest(gradient, numeric)).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
  });

  test('in bfloat16 is computed in float32 and rounded once', () => {
    scope(() => {
      const x = cast(tensorOf(normalNumbers(30, 7), [30]), 'bfloat16');
      const exact = cast(activate(kernels, cast(x, 'float32'), activation), 'bfloat16');
      const outputs = activate(kernels, x, activation);
      expect(outputs.dtype).toBe('bfloat16');
      expect(toFloat32Array(outputs)).toEqual(toFloat32Array(exact));
      expect(activationGradient(kernels, x, x, activation).dtype).toBe('bfloat16');
    });
  });
});
