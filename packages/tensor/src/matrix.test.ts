import { describe, expect, test } from 'vitest';
import { differenceByLargest } from '../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../test/numeric/normal-numbers.js';
import { add } from './arithmetic.js';
import { processorRuns } from './kernels/fused-library.js';
import { chooseKernels } from './kernels/kernel-table.js';
import { batchMatMul, fusedAddMatMul, fusedMatMul, rawAddMatMul, rawMatMul } from './kernels/product.js';
import { reshape, transpose } from './layout.js';
import { scope } from './tensor.js';
import { cast, tensorOf, toFloat32Array } from './transfer.js';

const kernels = chooseKernels('raw');

const [M, K, N] = [4, 7, 3];
const A = normalNumbers(M * K, 1);
const B = normalNumbers(K * N, 2);

function product(a: ArrayLike<number>, b: ArrayLike<number>): Float64Array {
  return Float64Array.from({ length: M * N }, (_, place) => {
    let sum = 0;
    for (let k = 0; k < K; k++) sum += a[Math.floor(place / N) * K + k]! * b[k * N + (place % N)]!;
    return sum;
  });
}

const FLAGS = [
  { transposeA: false, transposeB: false },
  { transposeA: false, transposeB: true },
  { transposeA: true, transposeB: false },
  { transposeA: true, transposeB: true },
];

test.each(FLAGS)('product of two matrices %o', (flags) => {
  const result = scope(() => {
    const a = tensorOf(A, [M, K]);
    const b = tensorOf(B, [K, N]);
    const given = [flags.transposeA ? transpose(a, [1, 0]) : a, flags.transposeB ? transpose(b, [1, 0]) : b] as const;
    const c = kernels.matMul(...given, flags);
    expect(c.shape).toEqual([M, N]);
    return toFloat32Array(c);
  });
  expect(differenceByLargest(result, product(A, B))).toBeLessThan(1e-6);
});

test.each(FLAGS)('products of matrices in the last two axes %o', (flags) => {
  const result = scope(() => {
    const a = tensorOf(Float32Array.from([...A, ...A.map((value) => -2 * value)]), [2, 1, M, K]);
    const b = tensorOf(Float32Array.from([...B, ...B]), [2, 1, K, N]);
    const swap = [0, 1, 3, 2];
    const given = [flags.transposeA ? transpose(a, swap) : a, flags.transposeB ? transpose(b, swap) : b] as const;
    const c = batchMatMul(...given, flags);
    expect(c.shape).toEqual([2, 1, M, N]);
    return toFloat32Array(c);
  });
  const once = product(A, B);
  expect(differenceByLargest(result.subarray(0, M * N), once)).toBeLessThan(1e-6);
  expect(
    differenceByLargest(
      result.subarray(M * N),
      once.map((value) => -2 * value),
    ),
  ).toBeLessThan(1e-6);
});

test('the axes before the last two are broadcast', () => {
  scope(() => {
    const b = reshape(tensorOf(B, [K, N]), [1, K, N]);
    const a = tensorOf(Float32Array.from([...A, ...A]), [2, M, K]);
    expect(batchMatMul(a, b).shape).toEqual([2, M, N]);
  });
});

test('addMatMul adds a product to a matrix', () => {
  scope(() => {
    const addend = tensorOf(normalNumbers(M * N, 8), [M, N]);
    const sum = toFloat32Array(kernels.addMatMul(addend, tensorOf(A, [M, K]), tensorOf(B, [K, N])));
    const expected = product(A, B).map((value, i) => value + toFloat32Array(addend)[i]!);
    expect(differenceByLargest(sum, expected)).toBeLessThan(1e-6);
  });
});

test('in bfloat16 the sums are exact to float32 and rounded once', () => {
  scope(() => {
    const a = cast(tensorOf(A, [M, K]), 'bfloat16');
    const b = cast(tensorOf(B, [K, N]), 'bfloat16');
    const c = kernels.matMul(a, b);
    expect(c.dtype).toBe('bfloat16');
    const expected = product(toFloat32Array(a), toFloat32Array(b));
    // A product is at most half a unit of its 8 significant bits away: 2⁻⁹ of itself, and no more for what is summed.
    for (const [i, value] of toFloat32Array(c).entries()) {
      expect(Math.abs(value - expected[i]!)).toBeLessThanOrEqual(Math.abs(expected[i]!) * 2 ** -8 + 1e-6);
    }
  });
});

const BFLOAT16_PRODUCTS = [
  { name: 'raw', product: rawMatMul, addProduct: rawAddMatMul },
  ...(processorRuns('avx512bf16') ? [{ name: 'fused', product: fusedMatMul, addProduct: fusedAddMatMul }] : []),
];

describe.each(BFLOAT16_PRODUCTS)('products in bfloat16, $name', ({ product: productOf, addProduct }) => {
  const { matMul } = chooseKernels('fused').of('float32');

  // Whole tiles and partial ones, one chunk of depth and several, few rows and many, strides that share cache lines.
  test.each([
    [1, 1, 1],
    [3, 5, 17],
    [28, 64, 96],
    [46, 3072, 32],
    [47, 3107, 65],
    [300, 2048, 160],
    [113, 6150, 704],
    [1000, 17, 33],
  ])('[%d, %d] and %d columns', (rows, depth, columns) => {
    scope(() => {
      const a = cast(tensorOf(normalNumbers(rows * depth, 3), [rows, depth]), 'bfloat16');
      const b = cast(tensorOf(normalNumbers(depth * columns, 4), [depth, columns]), 'bfloat16');
      const exact = toFloat32Array(matMul(cast(a, 'float32'), cast(b, 'float32'), false, false));
      const addend = cast(tensorOf(normalNumbers(rows * columns, 7), [rows, columns]), 'bfloat16');
      const sum = toFloat32Array(addProduct(addend, a, b, false));
      const added = toFloat32Array(cast(addend, 'float32'));
      for (const [i, value] of exact.entries()) {
        const bound = (Math.abs(value + added[i]!) + Math.abs(value)) * 2 ** -8 + Math.sqrt(depth) * 1e-5;
        if (!(Math.abs(sum[i]! - value - added[i]!) <= bound)) expect(sum[i], `sum ${i}`).toBe(value + added[i]!);
      }
      for (const c of [productOf(a, b, false, false), productOf(a, transpose(b, [1, 0]), false, true)]) {
        expect(c.shape).toEqual([rows, columns]);
        // Each element is rounded to 8 bits; the sums themselves are float32 in both.
        const values = toFloat32Array(c);
        for (const [i, value] of exact.entries()) {
          if (!(Math.abs(values[i]! - value) <= Math.abs(value) * 2 ** -8 + Math.sqrt(depth) * 1e-5)) {
            expect(values[i], `element ${i}`).toBe(value);
          }
        }
      }
    });
  });
});

describe.runIf(processorRuns('avx512'))('float32 products of our own', () => {
  // Whole tiles and panels and partial ones, one chunk of depth and several, strides that share cache lines.
  test.each([
    [1, 1, 1],
    [3, 5, 16],
    [15, 768, 33],
    [47, 1553, 70],
    [300, 2048, 161],
    [1000, 17, 48],
  ])('[%d, %d] and %d columns', (rows, depth, columns) => {
    scope(() => {
      const a = tensorOf(normalNumbers(rows * depth, 3), [rows, depth]);
      const b = tensorOf(normalNumbers(depth * columns, 4), [depth, columns]);
      const expected = toFloat32Array(rawMatMul(a, b, false, false));
      const c = toFloat32Array(fusedMatMul(a, b, false, false));
      expect(differenceByLargest(c, expected)).toBeLessThan(1e-6);
      expect(toFloat32Array(fusedMatMul(a, transpose(b, [1, 0]), false, true))).toEqual(c);
      // The addend is added to the whole sum, as by an op of its own.
      const addend = tensorOf(normalNumbers(rows * columns, 7), [rows, columns]);
      const sum = toFloat32Array(add(addend, tensorOf(c, [rows, columns])));
      for (const transposeB of [false, true]) {
        const given = transposeB ? transpose(b, [1, 0]) : b;
        expect(toFloat32Array(fusedAddMatMul(addend, a, given, transposeB))).toEqual(sum);
      }
    });
  });
});

const OWN_PRODUCTS = [
  ...(processorRuns('avx512') ? (['float32'] as const) : []),
  ...(processorRuns('avx512bf16') ? (['bfloat16'] as const) : []),
];

describe.each(OWN_PRODUCTS)('a row of a product of our own in %s', (dtype) => {
  // Odd depths and columns, and as many panels as make few rows another branch than many.
  test.each([
    [1, 1],
    [17, 31],
    [901, 257],
    [3109, 33],
    [64, 320],
  ])('of depth %d with %d columns is the same alone, and first or last of any number', (depth, columns) => {
    scope(() => {
      const most = 130;
      const numbers = normalNumbers(most * depth, 5);
      const b = cast(tensorOf(normalNumbers(depth * columns, 6), [depth, columns]), dtype);
      const addend = normalNumbers(most * columns, 7);
      const of = (first: number, rows: number) => {
        const given = cast(tensorOf(numbers.slice(first * depth, (first + rows) * depth), [rows, depth]), dtype);
        const added = addend.slice(first * columns, (first + rows) * columns);
        return [
          fusedMatMul(given, b, false, false),
          fusedMatMul(given, transpose(b, [1, 0]), false, true),
          fusedAddMatMul(cast(tensorOf(added, [rows, columns]), dtype), given, b, false),
        ].map(toFloat32Array);
      };
      const all = of(0, most);
      const expected = (first: number, rows: number) =>
        all.map((one) => one.slice(first * columns, (first + rows) * columns));
      for (const rows of [1, 13, 29, 113]) {
        for (const first of [0, most - rows]) {
          const own = of(first, rows);
          for (const [i, one] of expected(first, rows).entries()) {
            expect(Buffer.compare(new Uint8Array(own[i]!.buffer), new Uint8Array(one.buffer))).toBe(0);
          }
        }
      }
    });
  });

  test('keeps its infinities and NaN: they spread as in the sum that they belong to, and no further', () => {
    scope(() => {
      const a = cast(tensorOf(Float32Array.of(Number.NaN, 1, Number.POSITIVE_INFINITY, 1, 1, 2), [3, 2]), dtype);
      const b = cast(tensorOf(Float32Array.of(0, 1, 3, 4), [2, 2]), dtype);
      const c = toFloat32Array(fusedMatMul(a, b, false, false));
      expect([...c]).toEqual([Number.NaN, Number.NaN, Number.NaN, Number.POSITIVE_INFINITY, 6, 9]);
      // With an odd depth, what is read behind a row must not count.
      const odd = cast(tensorOf(Float32Array.of(2, Number.NaN), [2, 1]), dtype);
      const three = cast(tensorOf(Float32Array.of(3), [1, 1]), dtype);
      expect([...toFloat32Array(fusedMatMul(odd, three, false, false))]).toEqual([6, Number.NaN]);
    });
  });
});

test('a long sum in bfloat16 does not lose its small terms', () => {
  // 4096 ones: summed in bfloat16 they would stop at 256.
  scope(() => {
    const ones = cast(tensorOf(new Float32Array(4096).fill(1), [1, 4096]), 'bfloat16');
    expect([...toFloat32Array(kernels.matMul(ones, ones, { transposeB: true }))]).toEqual([4096]);
  });
});

test('matrices that do not fit', () => {
  scope(() => {
    const a = tensorOf(A, [M, K]);
    expect(() => kernels.matMul(a, a)).toThrow('MatMul(float32[4,7] float32[4,7])');
    expect(() => kernels.matMul(a, cast(a, 'bfloat16'), { transposeB: true })).toThrow(
      'MatMul(float32[4,7] bfloat16[4,7])',
    );
  });
});
