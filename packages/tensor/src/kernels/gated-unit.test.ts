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
import { ACTIVATIONS } from './activation.js';
import { rawGatedUnit, rawGatedUnitGradient } from './gated-unit.js';

const [TOKENS, INTERMEDIATE] = [3, 5];
const WIDTH = 2 * INTERMEDIATE;
// None within a step of 0, where relu has a corner.
const GATE_UP = normalNumbers(TOKENS * WIDTH, 1).map((value) => value + 0.05 * Math.sign(value));
const BY_OUTPUT = normalNumbers(TOKENS * INTERMEDIATE, 2);

test('silu of the first half times the second half', () => {
  const expected = Float64Array.from({ length: TOKENS * INTERMEDIATE }, (_, i) => {
    const first = Math.floor(i / INTERMEDIATE) * WIDTH + (i % INTERMEDIATE);
    const gate = GATE_UP[first]!;
    return (gate / (1 + Math.exp(-gate))) * GATE_UP[first + INTERMEDIATE]!;
  });
  scope(() => {
    const output = rawGatedUnit(tensorOf(GATE_UP, [TOKENS, WIDTH]), 'silu');
    expect(output.shape).toEqual([TOKENS, INTERMEDIATE]);
    expect(greatestDifference(toFloat32Array(output), expected)).toBeLessThan(1e-6);
  });
});

describe.each(ACTIVATIONS)('a unit gated by %s', (activation) => {
  test('has the gradient that finite differences have', () => {
    const numeric = centralDifferences((gateUp) => {
      const output = scope(() => toFloat32Array(rawGatedUnit(tensorOf(gateUp, [TOKENS, WIDTH]), activation)));
      return weightedSum(output, BY_OUTPUT);
    }, GATE_UP);
    const gradient = scope(() => {
      const byOutput = tensorOf(BY_OUTPUT, [TOKENS, INTERMEDIATE]);
      return toFloat32Array(rawGatedUnitGradient(byOutput, tensorOf(GATE_UP, [TOKENS, WIDTH]), activation));
    });
    expect(differenceByLargest(gradient, numeric)).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
  });

  test('in bfloat16 is computed in float32 and rounded once', () => {
    scope(() => {
      const gateUp = cast(tensorOf(GATE_UP, [TOKENS, WIDTH]), 'bfloat16');
      const gradient = cast(tensorOf(BY_OUTPUT, [TOKENS, INTERMEDIATE]), 'bfloat16');
      const exact = [cast(gateUp, 'float32'), cast(gradient, 'float32')] as const;
      const pairs: [actual: Tensor, expected: Tensor][] = [
        [rawGatedUnit(gateUp, activation), rawGatedUnit(exact[0], activation)],
        [rawGatedUnitGradient(gradient, gateUp, activation), rawGatedUnitGradient(exact[1], exact[0], activation)],
      ];
      for (const [actual, expected] of pairs) {
        expect(actual).toMatchObject({ dtype: 'bfloat16', shape: expected.shape });
        const wanted = toFloat32Array(expected);
        // Half a unit of 8 significant bits is at most 2⁻⁸ of a number; a little for float32.
        for (const [i, value] of toFloat32Array(actual).entries()) {
          expect(Math.abs(value - wanted[i]!)).toBeLessThanOrEqual(Math.abs(wanted[i]!) * 2 ** -8 + 1e-6);
        }
      }
    });
  });
});
