import { cast, scope, type Tensor, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import { describe, expect, test } from 'vitest';
import {
  centralDifferences,
  FINITE_DIFFERENCE_TOLERANCE,
  weightedSum,
} from '../../../../test/numeric/central-differences.js';
import { differenceByLargest, greatestDifference } from '../../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../../test/numeric/normal-numbers.js';
import { activate } from '../activation.js';
import { mlpActivation, mlpActivationGradient, swiGlu, swiGluGradient } from './gated-mlp.js';

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
    const output = swiGlu(tensorOf(GATE_UP, [TOKENS, WIDTH]));
    expect(output.shape).toEqual([TOKENS, INTERMEDIATE]);
    expect(greatestDifference(toFloat32Array(output), expected)).toBeLessThan(1e-6);
  });
});

test('its gradient against finite differences', () => {
  const numeric = centralDifferences((gateUp) => {
    return scope(() => weightedSum(toFloat32Array(swiGlu(tensorOf(gateUp, [TOKENS, WIDTH]))), BY_OUTPUT));
  }, GATE_UP);
  const gradient = scope(() => {
    return toFloat32Array(
      swiGluGradient(tensorOf(BY_OUTPUT, [TOKENS, INTERMEDIATE]), tensorOf(GATE_UP, [TOKENS, WIDTH])),
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
      [swiGlu(gateUp), swiGlu(exact[0])],
      [swiGluGradient(gradient, gateUp), swiGluGradient(exact[1], exact[0])],
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
      const output = toFloat32Array(mlpActivation(inputOf(input), mlp));
      const activated = toFloat32Array(activate(inputOf(input), mlp.activation));
      const expected = Float32Array.from({ length: TOKENS * INTERMEDIATE }, (_, i) => {
        const place = Math.floor(i / INTERMEDIATE) * width + (i % INTERMEDIATE);
        return activated[place]! * (mlp.gated ? input[place + INTERMEDIATE]! : 1);
      });
      expect(greatestDifference(output, expected)).toBeLessThan(1e-6);
    });
  });

  test('has the gradient that finite differences have', () => {
    const numeric = centralDifferences((values) => {
      return scope(() => weightedSum(toFloat32Array(mlpActivation(inputOf(values), mlp)), BY_OUTPUT));
    }, input);
    const gradient = scope(() => {
      const byOutput = tensorOf(BY_OUTPUT, [TOKENS, INTERMEDIATE]);
      return toFloat32Array(mlpActivationGradient(byOutput, inputOf(input), mlp));
    });
    expect(differenceByLargest(gradient, numeric)).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
  });
});
