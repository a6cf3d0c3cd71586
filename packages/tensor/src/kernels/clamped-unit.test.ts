import { describe, expect, test } from 'vitest';
import {
  centralDifferences,
  FINITE_DIFFERENCE_TOLERANCE,
  weightedSum,
} from '../../../../test/numeric/central-differences.js';
import { differenceByLargest } from '../../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../../test/numeric/normal-numbers.js';
import { liveTensorCount, scope } from '../tensor.js';
import { cast, tensorOf, toFloat32Array } from '../transfer.js';
import { chooseKernels } from './kernel-table.js';

const [TOKENS, INTERMEDIATE] = [13, 5];
const LIMIT = 7;
// A third of the numbers are beyond a limit; none is within a step of one, where the unit has a corner.
const GATE_UP = normalNumbers(TOKENS * 2 * INTERMEDIATE, 1).map((value) => {
  const wide = 7 * value;
  return Math.abs(Math.abs(wide) - LIMIT) < 0.05 ? 0.5 : wide;
});
const BY_OUTPUT = normalNumbers(TOKENS * INTERMEDIATE, 2);

/** The unit as its definition has it, in float64. */
function plain(gateUp: Float32Array): Float64Array {
  return Float64Array.from({ length: gateUp.length / 2 }, (_, i) => {
    const gate = Math.min(gateUp[2 * i]!, LIMIT);
    const up = Math.max(-LIMIT, Math.min(gateUp[2 * i + 1]!, LIMIT));
    return ((up + 1) * gate) / (1 + Math.exp(-1.702 * gate));
  });
}

describe.each(['raw', 'fused'] as const)('%s kernels', (source) => {
  const kernels = chooseKernels(source);

  const inputs = (gateUp: Float32Array<ArrayBuffer> = GATE_UP) => tensorOf(gateUp, [TOKENS, 2 * INTERMEDIATE]);

  test('gates and ups next to each other are clamped and multiplied', () => {
    expect(GATE_UP.filter((value) => Math.abs(value) > LIMIT).length).toBeGreaterThan(20);
    scope(() => {
      const output = kernels.of('float32').clampedUnit(inputs(), LIMIT);
      expect(output.shape).toEqual([TOKENS, INTERMEDIATE]);
      expect(differenceByLargest(toFloat32Array(output), plain(GATE_UP))).toBeLessThan(1e-6);
    });
  });

  test('the gradient is that of finite differences, and zero by what is clamped', () => {
    const numeric = centralDifferences((gateUp) => weightedSum(plain(Float32Array.from(gateUp)), BY_OUTPUT), GATE_UP);
    const before = liveTensorCount();
    const gradient = scope(() => {
      const byOutput = tensorOf(BY_OUTPUT, [TOKENS, INTERMEDIATE]);
      return toFloat32Array(kernels.of('float32').clampedUnitGradient(byOutput, inputs(), LIMIT));
    });
    expect(liveTensorCount()).toBe(before);
    expect(differenceByLargest(gradient, numeric)).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
    for (const [i, value] of GATE_UP.entries()) {
      if (i % 2 === 0 ? value > LIMIT : Math.abs(value) > LIMIT) expect(Math.abs(gradient[i]!)).toBe(0);
    }
  });

  test('at a limit a number is not clamped, as in PyTorch', () => {
    scope(() => {
      const atLimits = Float32Array.of(LIMIT, LIMIT, 1, -LIMIT);
      const byOutput = tensorOf(Float32Array.of(1, 1), [1, 2]);
      const gradient = kernels.of('float32').clampedUnitGradient(byOutput, tensorOf(atLimits, [1, 4]), LIMIT);
      expect([...toFloat32Array(gradient)].every((value) => value !== 0)).toBe(true);
    });
  });

  test('in bfloat16 is computed in float32 and rounded once', () => {
    scope(() => {
      const gateUp = cast(inputs(), 'bfloat16');
      const byOutput = cast(tensorOf(BY_OUTPUT, [TOKENS, INTERMEDIATE]), 'bfloat16');
      const exact = kernels.of('float32').clampedUnit(cast(gateUp, 'float32'), LIMIT);
      const output = kernels.of('bfloat16').clampedUnit(gateUp, LIMIT);
      expect(toFloat32Array(output)).toEqual(toFloat32Array(cast(exact, 'bfloat16')));
      const byExact = kernels
        .of('float32')
        .clampedUnitGradient(cast(byOutput, 'float32'), cast(gateUp, 'float32'), LIMIT);
      const gradient = kernels.of('bfloat16').clampedUnitGradient(byOutput, gateUp, LIMIT);
      expect(toFloat32Array(gradient)).toEqual(toFloat32Array(cast(byExact, 'bfloat16')));
    });
  });

  test('a NaN stays one', () => {
    scope(() => {
      const broken = tensorOf(Float32Array.of(Number.NaN, 1, 1, Number.NaN), [1, 4]);
      expect([...toFloat32Array(kernels.of('float32').clampedUnit(broken, LIMIT))]).toEqual([Number.NaN, Number.NaN]);
    });
  });
});
