import { expect, test } from 'vitest';
import {
  centralDifferences,
  FINITE_DIFFERENCE_TOLERANCE,
  weightedSum,
} from '../../../../test/numeric/central-differences.js';
import { differenceByLargest, greatestDifference } from '../../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../../test/numeric/normal-numbers.js';
import { scope, type Tensor } from '../tensor.js';
import { cast, tensorOf, toFloat32Array } from '../transfer.js';
import { rawSwiGlu, rawSwiGluGradient } from './swiglu.js';

const [TOKENS, INTERMEDIATE] = [3, 5];
const WIDTH = 2 * INTERMEDIATE;
const GATE_UP = normalNumbers(TOKENS * WIDTH, 1);
const BY_OUTPUT = normalNumbers(TOKENS * INTERMEDIATE, 2);

test('silu of the first half times the second half', () => {
  const expected = Float64Array.from({ length: TOKENS * INTERMEDIATE }, (_, i) => {
    const first = Math.floor(i / INTERMEDIATE) * WIDTH + (i % INTERMEDIATE);
    const gate = GATE_UP[first]!;
    return (gate / (1 + Math.exp(-gate))) * GATE_UP[first + INTERMEDIATE]!;
  });
  scope(() => {
    const output = rawSwiGlu(tensorOf(GATE_UP, [TOKENS, WIDTH]));
    expect(output.shape).toEqual([TOKENS, INTERMEDIATE]);
    expect(greatestDifference(toFloat32Array(output), expected)).toBeLessThan(1e-6);
  });
});

test('its gradient against finite differences', () => {
  const numeric = centralDifferences((gateUp) => {
    return scope(() => weightedSum(toFloat32Array(rawSwiGlu(tensorOf(gateUp, [TOKENS, WIDTH]))), BY_OUTPUT));
  }, GATE_UP);
  const gradient = scope(() => {
    return toFloat32Array(
      rawSwiGluGradient(tensorOf(BY_OUTPUT, [TOKENS, INTERMEDIATE]), tensorOf(GATE_UP, [TOKENS, WIDTH])),
    );
  });
  expect(differenceByLargest(gradient, numeric)).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
});

test('in bfloat16 it is computed in float32 and rounded once', () => {
  scope(() => {
    const gateUp = cast(tensorOf(GATE_UP, [TOKENS, WIDTH]), 'bfloat16');
    const gradient = cast(tensorOf(BY_OUTPUT, [TOKENS, INTERMEDIATE]), 'bfloat16');
    const exact = [cast(gateUp, 'float32'), cast(gradient, 'float32')] as const;
    const pairs: [actual: Tensor, expected: Tensor][] = [
      [rawSwiGlu(gateUp), rawSwiGlu(exact[0])],
      [rawSwiGluGradient(gradient, gateUp), rawSwiGluGradient(exact[1], exact[0])],
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
