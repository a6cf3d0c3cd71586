import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { differenceByLargest } from '../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../test/numeric/normal-numbers.js';
import * as ops from './arithmetic.js';
import { liveTensorCount, scope, type Tensor } from './tensor.js';
import { cast, constant, tensorOf, toFloat32Array, toInt32Array } from './transfer.js';

const ROWS = 3;
const COLUMNS = 5;
const A = normalNumbers(ROWS * COLUMNS, 1);
const B = normalNumbers(ROWS * COLUMNS, 2).map((value) => value + Math.sign(value)); // none near zero: they divide
const POSITIVE = A.map((value) => Math.abs(value) + 0.1);

/** Rounded as TensorFlow rounds to bfloat16: to the nearest, ties to even. */
function toBfloat16(value: number): number {
  const bits = new Uint32Array(Float32Array.of(value).buffer)[0]!;
  const rounded = (bits + 0x7fff + ((bits >>> 16) & 1)) & 0xffff0000;
  return new Float32Array(Uint32Array.of(rounded >>> 0).buffer)[0]!;
}

const matrix = (values: Float32Array<ArrayBuffer>) => tensorOf(values, [ROWS, COLUMNS]);

let before = 0;
beforeEach(() => {
  constant(0); // made once, never freed: not a leak
  before = liveTensorCount();
});
afterEach(() => {
  expect(liveTensorCount()).toBe(before);
});

describe('element by element, of two', () => {
  const binary: [name: string, op: (a: Tensor, b: Tensor) => Tensor, plain: (a: number, b: number) => number][] = [
    ['add', ops.add, (a, b) => a + b],
    ['subtract', ops.subtract, (a, b) => a - b],
    ['multiply', ops.multiply, (a, b) => a * b],
    ['divide', ops.divide, (a, b) => a / b],
    ['maximum', ops.maximum, Math.max],
    ['minimum', ops.minimum, Math.min],
  ];
  test.each(binary)('%s', (_, op, plain) => {
    const result = scope(() => toFloat32Array(op(matrix(A), matrix(B))));
    expect([...result]).toEqual([...A].map((a, i) => Math.fround(plain(a, B[i]!))));
  });

  test.each(binary.slice(0, 3))('%s in bfloat16 is the float32 result rounded once', (_, op, plain) => {
    const result = scope(() => toFloat32Array(op(cast(matrix(A), 'bfloat16'), cast(matrix(B), 'bfloat16'))));
    const expected = [...A].map((a, i) => toBfloat16(plain(toBfloat16(a), toBfloat16(B[i]!))));
    expect([...result]).toEqual(expected);
  });

  test('a row, a column and one number are broadcast', () => {
    scope(() => {
      const row = tensorOf(B.slice(0, COLUMNS), [COLUMNS]);
      const column = tensorOf(B.slice(0, ROWS), [ROWS, 1]);
      const expected = (other: (i: number) => number) => [...A].map((a, i) => Math.fround(a * other(i)));
      expect([...toFloat32Array(ops.multiply(matrix(A), row))]).toEqual(expected((i) => B[i % COLUMNS]!));
      expect([...toFloat32Array(ops.multiply(matrix(A), column))]).toEqual(
        expected((i) => B[Math.floor(i / COLUMNS)]!),
      );
      expect([...toFloat32Array(ops.multiply(matrix(A), constant(0)))]).toEqual(expected(() => 0));
    });
  });

  test('comparisons give booleans', () => {
    scope(() => {
      const left = tensorOf(Float32Array.of(1, 2, 3, Number.NaN), [4]);
      const right = tensorOf(Float32Array.of(2, 2, 2, 2), [4]);
      const greater = ops.greater(left, right);
      expect(greater.dtype).toBe('bool');
      expect([...toFloat32Array(greater)]).toEqual([0, 0, 1, 0]);
      expect([...toFloat32Array(ops.greaterEqual(left, right))]).toEqual([0, 1, 1, 0]);
    });
  });
});

describe('element by element, of one', () => {
  const unary: [name: string, op: (x: Tensor) => Tensor, plain: (x: number) => number, input: typeof A][] = [
    ['square', ops.square, (x) => x * x, A],
    ['squareRoot', ops.squareRoot, Math.sqrt, POSITIVE],
    ['reciprocalSquareRoot', ops.reciprocalSquareRoot, (x) => 1 / Math.sqrt(x), POSITIVE],
    ['exponential', ops.exponential, Math.exp, A],
    ['sigmoid', ops.sigmoid, (x) => 1 / (1 + Math.exp(-x)), A],
    ['tanh', ops.tanh, Math.tanh, A],
    ['relu', ops.relu, (x) => Math.max(0, x), A],
  ];
  // A few units in the last place, because TensorFlow approximates.
  test.each(unary)('%s', (_, op, plain, input) => {
    const result = scope(() => toFloat32Array(op(matrix(input))));
    expect(differenceByLargest(result, [...input].map(plain))).toBeLessThan(1e-6);
  });

  // Abramowitz and Stegun, table 7.1.
  test('erf', () => {
    const result = scope(() => toFloat32Array(ops.erf(tensorOf(Float32Array.of(0, 0.5, 1, -1, 2), [5]))));
    const expected = [0, 0.5204998778, 0.8427007929, -0.8427007929, 0.995322265];
    expect(differenceByLargest(result, expected)).toBeLessThan(1e-6);
  });
});

describe('along an axis', () => {
  const rowsOf = (values: Float32Array) =>
    Array.from({ length: ROWS }, (_, row) => [...values.subarray(row * COLUMNS, (row + 1) * COLUMNS)]);
  const total = (values: number[]) => values.reduce((sum, value) => sum + value, 0);

  test('sum, mean and max of rows, of columns and of all', () => {
    scope(() => {
      const rows = rowsOf(A);
      const columns = rows[0]!.map((_, column) => rows.map((row) => row[column]!));
      const cases: [typeof ops.sum, (values: number[]) => number][] = [
        [ops.sum, total],
        [ops.mean, (values) => total(values) / values.length],
        [ops.max, (values) => Math.max(...values)],
      ];
      for (const [op, plain] of cases) {
        expect(differenceByLargest(toFloat32Array(op(matrix(A), -1)), rows.map(plain))).toBeLessThan(1e-6);
        expect(differenceByLargest(toFloat32Array(op(matrix(A), 0)), columns.map(plain))).toBeLessThan(1e-6);
        expect(differenceByLargest(toFloat32Array(op(matrix(A), 'all')), [plain([...A])])).toBeLessThan(1e-6);
      }
      expect(ops.sum(matrix(A), 1).shape).toEqual([ROWS]);
      expect(ops.sum(matrix(A), 1, { keepDims: true }).shape).toEqual([ROWS, 1]);
      expect(ops.sum(matrix(A), 'all').shape).toEqual([]);
      expect(ops.sum(matrix(A), 'all', { keepDims: true }).shape).toEqual([1, 1]);
    });
  });

  test('softmax, also of numbers whose exponentials overflow', () => {
    const large = A.map((value) => value * 300);
    const plain = rowsOf(large).flatMap((row) => {
      const powers = row.map((value) => Math.exp(value - Math.max(...row)));
      return powers.map((power) => power / total(powers));
    });
    const result = scope(() => toFloat32Array(ops.softmax(matrix(large))));
    expect(differenceByLargest(result, plain)).toBeLessThan(1e-5);
  });

  test('argMax of each row, the first where two are equal', () => {
    scope(() => {
      const x = tensorOf(Float32Array.of(1, 3, 2, 5, 5, -1, -3, -2, -1), [3, 3]);
      const result = ops.argMax(x);
      expect(result).toMatchObject({ dtype: 'int32', shape: [3] });
      expect([...toInt32Array(result)]).toEqual([1, 0, 2]);
    });
  });
});

test('shapes that do not match: the error names the op, the types and the shapes', () => {
  expect(() => scope(() => ops.add(matrix(A), tensorOf(new Float32Array(2), [2])))).toThrow(
    'AddV2(float32[3,5] float32[2])',
  );
  expect(() => scope(() => ops.multiply(matrix(A), cast(matrix(B), 'bfloat16')))).toThrow(
    'Mul(float32[3,5] bfloat16[3,5])',
  );
});
