import type { CaseTolerance, ComputedCase } from '@lorasmith/training';
import { expect, test } from 'vitest';
import { judgeCase } from './judge-engine.js';

const EXPECTED = Float32Array.from({ length: 1000 }, (_, i) => Math.sin(i));
const ELEMENTS: CaseTolerance = { kind: 'elements', relative: 2 ** -7, absolute: 2 ** -10 };
const VECTOR: CaseTolerance = { kind: 'vector', relative: 1e-3 };

function caseOf(values: Float32Array | null, tolerance = ELEMENTS, changes: Partial<ComputedCase> = {}): ComputedCase {
  return {
    name: 'a case',
    subject: { kind: 'kernel', name: 'rmsNorm:bfloat16' },
    tolerance,
    values: values === null ? null : { output: values },
    isRepeatable: true,
    error: null,
    ...changes,
  };
}
const changedAt = (index: number, value: number) => EXPECTED.map((each, i) => (i === index ? value : each));
const fault = (actual: ComputedCase, tolerance: CaseTolerance = ELEMENTS, expected = EXPECTED) =>
  judgeCase(actual, caseOf(expected, tolerance)).fault;

test('numbers within the tolerance agree', () => {
  expect(fault(caseOf(EXPECTED))).toBeNull();
  expect(fault(caseOf(EXPECTED.map((value) => value * (1 + 2 ** -8))))).toBeNull();
  expect(fault(caseOf(EXPECTED.map((value) => value + 2 ** -12)))).toBeNull();
  expect(fault(caseOf(EXPECTED, VECTOR), VECTOR)).toBeNull();
});

test('one wrong number among a thousand is found, and named', () => {
  expect(fault(caseOf(changedAt(400, 0.5)))).toMatch(
    /^output differs in 1 of 1000 numbers, most at 400: 0\.5 instead of -0\.85/,
  );
  // Far below the largest number, and far above the root mean square times the tolerance.
  expect(fault(caseOf(changedAt(0, 0.01)))).toContain('most at 0: 0.01');
  expect(fault(caseOf(changedAt(7, 3)), VECTOR)).toMatch(
    /^output differs by 0\.1\d* of its length; 0\.001 is the limit$/,
  );
});

test('the excess is the greatest difference in units of the tolerance, also where nothing is wrong', () => {
  const excess = (actual: Float32Array, tolerance: CaseTolerance = ELEMENTS) =>
    judgeCase(caseOf(actual, tolerance), caseOf(EXPECTED, tolerance)).excess;
  expect(excess(EXPECTED)).toBe(0);
  const half = EXPECTED.map((value, i) => (i === 5 ? value * (1 + 2 ** -8) : value));
  // Of the relative part a half, of all of it a little less.
  expect(excess(half)).toBeCloseTo(0.46, 1);
  expect(excess(changedAt(3, Number.NaN))).toBe(Number.POSITIVE_INFINITY);
  expect(
    excess(
      EXPECTED.map((value) => value * 1.0005),
      VECTOR,
    ),
  ).toBeCloseTo(0.5, 2);
  expect(judgeCase(caseOf(null), caseOf(EXPECTED)).excess).toBeNull();
});

test('a row of larger numbers than the others has a larger tolerance, and no other row', () => {
  const rows = Float32Array.from({ length: 100 }, (_, i) => (i < 10 ? 100 : 1) * Math.sin(i + 1));
  const tolerance = { kind: 'elements', relative: 0, absolute: 2 ** -10, rowSize: 10 } as const;
  const judged = (index: number, by: number, own: CaseTolerance = tolerance) => {
    const card = rows.map((value, i) => (i === index ? value + by : value));
    return judgeCase(caseOf(card, own), caseOf(rows, own)).excess!;
  };
  const root = (numbers: Float32Array) =>
    Math.sqrt(numbers.reduce((sum, value) => sum + value ** 2, 0) / numbers.length);
  const [first, whole] = [root(rows.subarray(0, 10)), root(rows)];
  expect(judged(4, 2 ** -10 * first)).toBeCloseTo(1, 3);
  expect(judged(14, 2 ** -10 * whole)).toBeCloseTo(1, 3);
  expect(judged(4, 2 ** -10 * first, { ...tolerance, rowSize: 100 })).toBeCloseTo(first / whole, 3);
});

test('numbers that are not finite must be the same', () => {
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY]) {
    expect(fault(caseOf(changedAt(3, value)))).toContain('differs in 1 of 1000');
    expect(fault(caseOf(changedAt(3, value)), ELEMENTS, changedAt(3, value))).toBeNull();
    expect(fault(caseOf(EXPECTED), ELEMENTS, changedAt(3, value))).toContain('differs in 1 of 1000');
    expect(fault(caseOf(changedAt(3, value)), VECTOR)).not.toBeNull();
  }
});

test('zeros must be zeros where exact numbers are expected', () => {
  const exact: CaseTolerance = { kind: 'elements', relative: 0, absolute: 0 };
  const zeros = new Float32Array(4);
  expect(fault(caseOf(zeros), exact, zeros)).toBeNull();
  expect(fault(caseOf(Float32Array.of(0, 0, 1e-30, 0)), exact, zeros)).toContain('differs in 1 of 4');
});

test('what was not computed, differs between runs or has another shape is a fault', () => {
  expect(fault(caseOf(null, ELEMENTS, { error: 'CUDA_ERROR_LAUNCH_FAILED (719)' }))).toBe(
    'CUDA_ERROR_LAUNCH_FAILED (719)',
  );
  expect(fault(caseOf(EXPECTED, ELEMENTS, { isRepeatable: false }))).toBe('two runs on the card differ');
  expect(fault(caseOf(EXPECTED.subarray(1)))).toBe('output has another shape');
  expect(judgeCase(caseOf(EXPECTED), caseOf(null, ELEMENTS, { error: 'no memory' })).fault).toBe(
    'the CPU could not compute it: no memory',
  );
});
