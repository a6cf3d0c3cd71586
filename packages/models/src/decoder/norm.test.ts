import type { NormSettings } from '@lorasmith/model-folder';
import {
  cast,
  chooseKernels,
  type KernelSet,
  liveTensorCount,
  scope,
  tensorOf,
  toFloat32Array,
} from '@lorasmith/tensor';
import { describe, expect, test } from 'vitest';
import {
  centralDifferences,
  FINITE_DIFFERENCE_TOLERANCE,
  weightedSum,
} from '../../../../test/numeric/central-differences.js';
import { differenceByLargest, greatestDifference } from '../../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../../test/numeric/normal-numbers.js';
import { branchGradient, Norm, normBranch } from './norm.js';

const [TOKENS, HIDDEN] = [4, 6];
const X = normalNumbers(TOKENS * HIDDEN, 1).map((value) => value + 0.7);
const BRANCH = normalNumbers(TOKENS * HIDDEN, 2);
const WEIGHT = normalNumbers(HIDDEN, 3);
const BIAS = normalNumbers(HIDDEN, 4);
const BY_OUTPUT = normalNumbers(TOKENS * HIDDEN, 5);
const RESIDUAL = normalNumbers(TOKENS * HIDDEN, 6);
const rows = (values: Float32Array<ArrayBuffer>) => tensorOf(values, [TOKENS, HIDDEN]);

function norm(kernels: KernelSet, kind: NormSettings['kind']): Norm {
  const bias = kind === 'layer' ? tensorOf(BIAS, [HIDDEN]) : null;
  return new Norm(kernels, { kind, epsilon: 1e-5, weightOffset: 0 }, tensorOf(WEIGHT, [HIDDEN]), bias);
}

/** Layer norm as its definition has it, in float64. */
function layerNorm(x: Float32Array): Float64Array {
  return Float64Array.from(x, (value, i) => {
    const row = [...x.subarray(Math.floor(i / HIDDEN) * HIDDEN).subarray(0, HIDDEN)];
    const mean = row.reduce((sum, each) => sum + each, 0) / HIDDEN;
    const variance = row.reduce((sum, each) => sum + (each - mean) ** 2, 0) / HIDDEN;
    return ((value - mean) / Math.sqrt(variance + 1e-5)) * WEIGHT[i % HIDDEN]! + BIAS[i % HIDDEN]!;
  });
}

describe.each(['raw', 'fused'] as const)('with %s kernels', (source) => {
  const kernels = chooseKernels(source);

  test('layer norm is what its definition says', () => {
    scope(() => {
      expect(
        greatestDifference(toFloat32Array(norm(kernels, 'layer').forward(rows(X), 'float32').output), layerNorm(X)),
      ).toBeLessThan(1e-5);
    });
  });

  test.each(['rms', 'layer'] as const)('%s norm of a sum is the norm of the sum, which is given too', (kind) => {
    scope(() => {
      const sum = X.map((value, i) => value + BRANCH[i]!);
      const both = norm(kernels, kind).addForward(rows(X), rows(BRANCH));
      const expected = norm(kernels, kind).forward(rows(sum), 'float32');
      expect(greatestDifference(toFloat32Array(both.sum), sum)).toBeLessThan(1e-6);
      expect(greatestDifference(toFloat32Array(both.output), toFloat32Array(expected.output))).toBeLessThan(1e-5);
    });
  });

  test.each(
    (['rms', 'layer'] as const).flatMap((kind) => (['float32', 'bfloat16'] as const).map((dtype) => ({ kind, dtype }))),
  )('$kind norm of a sum has the bits of the norm of the sum that is kept, in $dtype', ({ kind, dtype }) => {
    scope(() => {
      const [tokens, width] = [5, 576];
      const numbers = (seed: number) => tensorOf(normalNumbers(tokens * width, seed), [tokens, width]);
      const vector = (seed: number) => tensorOf(normalNumbers(width, seed), [width]);
      const wide = new Norm(
        kernels,
        { kind, epsilon: 1e-5, weightOffset: 0 },
        vector(1),
        kind === 'layer' ? vector(2) : null,
      );
      const both = wide.addForward(numbers(3), cast(numbers(4), dtype));
      const again = wide.forward(both.sum, dtype);
      expect(toFloat32Array(again.output)).toEqual(toFloat32Array(both.output));
    });
  });

  test.each(['rms', 'layer'] as const)('%s norm has the gradient that finite differences have', (kind) => {
    const numeric = centralDifferences((x) => {
      return scope(() =>
        weightedSum(toFloat32Array(norm(kernels, kind).forward(rows(x), 'float32').output), BY_OUTPUT),
      );
    }, X);
    const gradientOf = (residual: Float32Array<ArrayBuffer> | null) =>
      scope(() => {
        const own = norm(kernels, kind);
        const { inverseRms } = own.forward(rows(X), 'float32');
        const { exact } = own.gradient(rows(BY_OUTPUT), rows(X), inverseRms, residual && rows(residual));
        return toFloat32Array(exact);
      });
    const alone = gradientOf(null);
    expect(differenceByLargest(alone, numeric)).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
    const added = alone.map((value, i) => value + RESIDUAL[i]!);
    expect(greatestDifference(gradientOf(RESIDUAL), added)).toBeLessThan(1e-5);
  });

  test.each(['rms', 'layer'] as const)('in bfloat16 %s norm is rounded once', (kind) => {
    scope(() => {
      const exact = norm(kernels, kind).forward(rows(X), 'float32').output;
      const rounded = norm(kernels, kind).forward(rows(X), 'bfloat16').output;
      expect(rounded.dtype).toBe('bfloat16');
      // Half a unit of 8 significant bits is at most 2⁻⁹ of a number's power of two.
      expect(differenceByLargest(toFloat32Array(rounded), toFloat32Array(exact))).toBeLessThan(2 ** -8);
    });
  });

  test('the norm of a branch, and its gradient, which frees what was saved', () => {
    const numeric = centralDifferences((branch) => {
      return scope(() =>
        weightedSum(toFloat32Array(normBranch(norm(kernels, 'rms'), rows(branch), false).output), BY_OUTPUT),
      );
    }, BRANCH);
    scope(() => {
      const own = norm(kernels, 'rms');
      const { output, saved } = normBranch(own, rows(BRANCH), true);
      output.dispose();
      const alive = liveTensorCount();
      const gradient = branchGradient(own, rows(BY_OUTPUT), saved);
      // The branch and its 1/rms are gone, the gradient is there.
      expect(liveTensorCount()).toBe(alive - 1);
      expect(differenceByLargest(toFloat32Array(gradient), numeric)).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
    });
  });
});

test('a branch without a norm is left alone', () => {
  scope(() => {
    const branch = rows(BRANCH);
    expect(normBranch(null, branch, true)).toEqual({ output: branch, saved: null });
    const gradient = cast(rows(BY_OUTPUT), 'bfloat16');
    expect(branchGradient(null, gradient, null)).toBe(gradient);
  });
});
