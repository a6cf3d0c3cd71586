import { describe, expect, test } from 'vitest';
import {
  centralDifferences,
  FINITE_DIFFERENCE_TOLERANCE,
  weightedSum,
} from '../../../../test/numeric/central-differences.js';
import { differenceByLargest, greatestDifference } from '../../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../../test/numeric/normal-numbers.js';
import { anglesOf, frequenciesOf } from '../../test/rotary-angles.js';
import { scope } from '../tensor.js';
import { tensorOf, toFloat32Array } from '../transfer.js';
import { rotaryTable, rotate } from './rotary.js';

describe('rotate', () => {
  const [HEADS, POSITIONS, HEAD_DIM, THETA] = [2, 5, 4, 100];
  const X = normalNumbers(HEADS * POSITIONS * HEAD_DIM, 1);
  const table = () => rotaryTable(anglesOf(POSITIONS, HEAD_DIM, THETA));
  const input = (values: Float32Array<ArrayBuffer>) => tensorOf(values, [HEADS, POSITIONS, HEAD_DIM]);

  test('turns each pair (i, i + headDim / 2) by position × frequency', () => {
    const frequencies = frequenciesOf(HEAD_DIM, THETA);
    const half = HEAD_DIM / 2;
    const expected = Float64Array.from(X, (value, place) => {
      const dimension = place % HEAD_DIM;
      const position = Math.floor(place / HEAD_DIM) % POSITIONS;
      const angle = position * frequencies[dimension % half]!;
      const isFirst = dimension < half;
      const other = X[place + (isFirst ? half : -half)]!;
      return value * Math.cos(angle) + (isFirst ? -other : other) * Math.sin(angle);
    });
    const rotated = scope(() => toFloat32Array(rotate(input(X), table(), 'forward')));
    expect(greatestDifference(rotated, expected)).toBeLessThan(1e-6);
  });

  test('the inverse undoes it', () => {
    const same = scope(() => {
      return toFloat32Array(rotate(rotate(input(X), table(), 'forward'), table(), 'inverse'));
    });
    expect(greatestDifference(same, X)).toBeLessThan(1e-6);
  });

  test('the inverse is the gradient, against finite differences', () => {
    const byOutput = normalNumbers(X.length, 2);
    const numeric = centralDifferences((x) => {
      return scope(() => {
        return weightedSum(toFloat32Array(rotate(input(x), table(), 'forward')), byOutput);
      });
    }, X);
    const gradient = scope(() => toFloat32Array(rotate(input(byOutput), table(), 'inverse')));
    expect(differenceByLargest(gradient, numeric)).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
  });
});
