import { expect, test } from 'vitest';
import {
  centralDifferences,
  FINITE_DIFFERENCE_TOLERANCE,
  weightedSum,
} from '../../../../test/numeric/central-differences.js';
import { differenceByLargest } from '../../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../../test/numeric/normal-numbers.js';
import { scope } from '../tensor.js';
import { tensorOf, toFloat32Array } from '../transfer.js';
import { rawCrossEntropy } from './cross-entropy.js';

const [ROWS, CLASSES] = [3, 6];
const LABELS = Int32Array.of(5, 0, 2);
const LOGITS = normalNumbers(ROWS * CLASSES, 3);

function computed(logits: Float32Array<ArrayBuffer>) {
  return scope(() => {
    const { loss, gradient } = rawCrossEntropy(tensorOf(logits, [ROWS, CLASSES]), tensorOf(LABELS, [ROWS]));
    return { loss: toFloat32Array(loss), gradient: toFloat32Array(gradient) };
  });
}

test('cross entropy is -log of the softmax at the label', () => {
  const expected = [...LABELS].map((label, row) => {
    const own = LOGITS.subarray(row * CLASSES, (row + 1) * CLASSES);
    return Math.log(own.reduce((sum, value) => sum + Math.exp(value), 0)) - own[label]!;
  });
  expect(differenceByLargest(computed(LOGITS).loss, expected)).toBeLessThan(1e-6);
});

test('the gradient of cross entropy against finite differences', () => {
  const numeric = centralDifferences((logits) => weightedSum(computed(logits).loss, [1, 1, 1]), LOGITS);
  expect(differenceByLargest(computed(LOGITS).gradient, numeric)).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
});

test('a label is correct where argmax is that class: the first of equal ones', () => {
  const logits = Float32Array.of(1, 2, 3, 3, 2, 3, 1, 1, 1, 0, 5, 0);
  const correctOf = (labels: number[]) =>
    scope(() => {
      const result = rawCrossEntropy(tensorOf(logits, [4, 3]), tensorOf(Int32Array.from(labels), [4]));
      return [...toFloat32Array(result.correct)];
    });
  expect(correctOf([2, 0, 0, 1])).toEqual([1, 1, 1, 1]);
  expect(correctOf([1, 2, 2, 2])).toEqual([0, 0, 0, 0]);
});

test('large logits do not overflow', () => {
  const { loss } = computed(LOGITS.map((value) => value * 1e4));
  expect([...loss].every(Number.isFinite)).toBe(true);
});
