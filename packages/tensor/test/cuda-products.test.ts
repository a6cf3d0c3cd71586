import './emulated-gpu.js';
import { describe, expect, test } from 'vitest';
import { greatestDifference } from '../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../test/numeric/normal-numbers.js';
import { engine } from '../src/binding.js';
import { rowSections } from '../src/kernels/grouped-product.js';
import { chooseKernels } from '../src/kernels/kernel-table.js';
import { batchMatMul } from '../src/kernels/product.js';
import { slice } from '../src/layout.js';
import { type FloatDType, scope, type Tensor } from '../src/tensor.js';
import { cast, tensorOf, toFloat32Array } from '../src/transfer.js';

const kernels = chooseKernels('fused');

const cuda = engine.cuda!;

interface Shape {
  rows: number;
  depth: number;
  columns: number;
}

/** Sums in double precision, of matrices that lie one after the other. */
function reference(
  [a, b, addend]: [Float32Array, Float32Array, Float32Array?],
  { rows, depth, columns }: Shape,
  [transposeA, transposeB]: [boolean, boolean],
): Float32Array {
  return Float32Array.from({ length: rows * columns }, (_, at) => {
    const [row, column] = [Math.floor(at / columns), at % columns];
    let sum = addend?.[at] ?? 0;
    for (let k = 0; k < depth; k++) {
      sum +=
        a[transposeA ? k * rows + row : row * depth + k]! * b[transposeB ? column * depth + k : k * columns + column]!;
    }
    return sum;
  });
}

/** A unit in the last place of bfloat16, or the order of sums in float32, of the largest numbers that occur. */
const boundOf = (dtype: FloatDType, depth: number) =>
  dtype === 'bfloat16' ? 2 ** -8 * 4 * Math.sqrt(depth + 1) : 1e-6 * (depth + 1);

const matrixOf = (shape: number[], seed: number, dtype: FloatDType): Tensor => {
  const size = shape.reduce((product, length) => product * length, 1);
  return cast(tensorOf(normalNumbers(size, seed), shape), dtype);
};

const SHAPES: Shape[] = [
  { rows: 1, depth: 1, columns: 1 },
  { rows: 3, depth: 5, columns: 7 },
  { rows: 65, depth: 33, columns: 129 },
  { rows: 64, depth: 256, columns: 96 },
  // The emulated cuBLASLt splits this depth, which needs its workspace.
  { rows: 2, depth: 5000, columns: 3 },
];
const WAYS: [boolean, boolean][] = [
  [false, false],
  [false, true],
  [true, false],
  [true, true],
];

describe.each(['float32', 'bfloat16'] as const)('in %s', (dtype) => {
  test.each(SHAPES)('$rows × $depth × $columns, each side as it is or transposed', (shape) => {
    const { rows, depth, columns } = shape;
    for (const [transposeA, transposeB] of WAYS) {
      scope(() => {
        const a = matrixOf(transposeA ? [depth, rows] : [rows, depth], 1, dtype);
        const b = matrixOf(transposeB ? [columns, depth] : [depth, columns], 2, dtype);
        const before = cuda.statistics();
        const product = kernels.matMul(a, b, { transposeA, transposeB });
        const after = cuda.statistics();
        expect(after.kernels.cublasLtMatmul).toBe((before.kernels.cublasLtMatmul ?? 0) + 1);
        expect(after.downloads).toBe(before.downloads);
        expect(product).toMatchObject({ shape: [rows, columns], dtype });
        const expected = reference([toFloat32Array(a), toFloat32Array(b)], shape, [transposeA, transposeB]);
        expect(greatestDifference(toFloat32Array(product), expected)).toBeLessThanOrEqual(boundOf(dtype, depth));
      });
    }
  });

  test.each(SHAPES)('$rows × $depth × $columns with an addend is one product', (shape) => {
    const { rows, depth, columns } = shape;
    for (const transposeB of [false, true]) {
      scope(() => {
        const a = matrixOf([rows, depth], 1, dtype);
        const b = matrixOf(transposeB ? [columns, depth] : [depth, columns], 2, dtype);
        const addend = matrixOf([rows, columns], 3, dtype);
        const before = cuda.statistics();
        const sum = kernels.addMatMul(addend, a, b, { transposeB });
        expect(cuda.statistics().launches).toBe(before.launches + 1);
        const [left, right, own] = [toFloat32Array(a), toFloat32Array(b), toFloat32Array(addend)];
        const expected = reference([left, right, own], shape, [false, transposeB]);
        expect(greatestDifference(toFloat32Array(sum), expected)).toBeLessThanOrEqual(boundOf(dtype, depth));
        // The addend is not written.
        expect(toFloat32Array(addend)).toEqual(own);
      });
    }
  });

  test('a product for each group of rows that has any', () => {
    const [counts, depth, columns] = [[3, 0, 65, 1], 5, 7];
    const offsets = Int32Array.of(0, 3, 3, 68, 69);
    scope(() => {
      for (const transposed of [false, true]) {
        const a = matrixOf([69, depth], 1, dtype);
        const b = matrixOf(transposed ? [4, columns, depth] : [4, depth, columns], 2, dtype);
        const before = cuda.statistics();
        const product = kernels.of(dtype).groupedProduct(a, b, rowSections(offsets), transposed);
        const after = cuda.statistics();
        expect(after.launches).toBe(before.launches + 1);
        expect(after.downloads).toBe(before.downloads);
        const [numbersA, numbersB] = [toFloat32Array(a), toFloat32Array(b)];
        const expected = counts.flatMap((rows, group) => {
          const own: [Float32Array, Float32Array] = [
            numbersA.subarray(offsets[group]! * depth),
            numbersB.subarray(group * depth * columns),
          ];
          return [...reference(own, { rows, depth, columns }, [false, transposed])];
        });
        expect(greatestDifference(toFloat32Array(product), expected)).toBeLessThanOrEqual(boundOf(dtype, depth));
      }
      const [a, b] = [matrixOf([3, 5], 1, dtype), matrixOf([2, 5, 4], 2, dtype)];
      const withOffsets = (...own: number[]) =>
        kernels.of(dtype).groupedProduct(a, b, rowSections(Int32Array.from(own)), false);
      expect(() => void withOffsets(0, 3)).toThrow('there must be an offset for each matrix, and the end');
      expect(() => void withOffsets(0, 2, 4)).toThrow('the rows must be all tokens');
      expect(() => void withOffsets(0, 4, 3)).toThrow('the rows must be all tokens');
    });
  });

  test('without a depth the product is zero, or the addend; without rows or columns it is empty', () => {
    scope(() => {
      const [a, b] = [matrixOf([2, 0], 1, dtype), matrixOf([0, 3], 2, dtype)];
      expect(toFloat32Array(kernels.matMul(a, b))).toEqual(new Float32Array(6));
      const addend = matrixOf([2, 3], 3, dtype);
      expect(toFloat32Array(kernels.addMatMul(addend, a, b))).toEqual(toFloat32Array(addend));
      expect(kernels.matMul(b, a, { transposeA: true, transposeB: true }).shape).toEqual([3, 2]);
      expect(toFloat32Array(kernels.matMul(matrixOf([0, 4], 1, dtype), matrixOf([4, 3], 2, dtype)))).toHaveLength(0);
      expect(toFloat32Array(kernels.matMul(matrixOf([3, 4], 1, dtype), matrixOf([4, 0], 2, dtype)))).toHaveLength(0);
    });
  });

  const BATCHES: { name: string; left: number[]; right: number[]; batch: number[] }[] = [
    { name: 'one axis', left: [3], right: [3], batch: [3] },
    { name: 'two axes', left: [2, 3], right: [2, 3], batch: [2, 3] },
    { name: 'one matrix for all', left: [2, 3], right: [1, 1], batch: [2, 3] },
    { name: 'one matrix without axes', left: [], right: [4], batch: [4] },
    { name: 'one for each of the last axis', left: [2, 3], right: [3], batch: [2, 3] },
    { name: 'each with an axis of its own', left: [2, 1], right: [1, 3], batch: [2, 3] },
    { name: 'no matrix', left: [0], right: [1], batch: [0] },
  ];
  test.each(BATCHES)('a batch: $name', ({ left, right, batch }) => {
    const shape = { rows: 5, depth: 6, columns: 4 };
    const { rows, depth, columns } = shape;
    for (const [transposeA, transposeB] of WAYS) {
      scope(() => {
        const a = matrixOf([...left, ...(transposeA ? [depth, rows] : [rows, depth])], 1, dtype);
        const b = matrixOf([...right, ...(transposeB ? [columns, depth] : [depth, columns])], 2, dtype);
        const product = batchMatMul(a, b, { transposeA, transposeB });
        expect(product.shape).toEqual([...batch, rows, columns]);
        const [numbersA, numbersB] = [toFloat32Array(a), toFloat32Array(b)];
        const count = batch.reduce((most, length) => most * length, 1);
        const expected = Array.from({ length: count }, (_, index) => {
          const own = (numbers: Float32Array, axes: number[], size: number) => {
            const first = positionOf(index, batch, axes) * size;
            return numbers.subarray(first, first + size);
          };
          const pair: [Float32Array, Float32Array] = [
            own(numbersA, left, rows * depth),
            own(numbersB, right, depth * columns),
          ];
          return [...reference(pair, shape, [transposeA, transposeB])];
        }).flat();
        expect(greatestDifference(toFloat32Array(product), expected)).toBeLessThanOrEqual(boundOf(dtype, depth));
      });
    }
  });

  test('a part of a tensor that begins at an odd place is multiplied as well', () => {
    scope(() => {
      const all = matrixOf([5, 3], 1, dtype);
      const part = slice(all, [1, 0], [4, 3]);
      const b = matrixOf([3, 2], 2, dtype);
      const expected = reference(
        [toFloat32Array(all).subarray(3), toFloat32Array(b)],
        { rows: 4, depth: 3, columns: 2 },
        [false, false],
      );
      expect(greatestDifference(toFloat32Array(kernels.matMul(part, b)), expected)).toBeLessThanOrEqual(
        boundOf(dtype, 3),
      );
    });
  });

  test('the same product twice has the same bits', () => {
    scope(() => {
      const [a, b] = [matrixOf([33, 700], 1, dtype), matrixOf([700, 65], 2, dtype)];
      expect(toFloat32Array(kernels.matMul(a, b))).toEqual(toFloat32Array(kernels.matMul(a, b)));
    });
  });

  test('matrices that do not fit are rejected', () => {
    scope(() => {
      const [a, b] = [matrixOf([2, 3], 1, dtype), matrixOf([4, 5], 2, dtype)];
      expect(() => void kernels.matMul(a, b)).toThrow(/MatMul\(.*\[2,3\].*the matrices must have the same depth/s);
      const fitting = matrixOf([3, 5], 2, dtype);
      expect(() => void kernels.addMatMul(b, a, fitting)).toThrow(/the addend must have the shape of the product/);
      expect(() => void batchMatMul(matrixOf([2, 2, 3], 1, dtype), matrixOf([3, 3, 5], 2, dtype))).toThrow(
        /the batches of matrices do not fit/,
      );
    });
  });
});

/** The position in a batch with axes `axes` of the matrix that is number `index` in `batch`, to which it is broadcast. */
function positionOf(index: number, batch: number[], axes: number[]): number {
  let [rest, position, stride] = [index, 0, 1];
  for (let fromEnd = 1; fromEnd <= axes.length; fromEnd++) {
    const length = batch.at(-fromEnd)!;
    if (axes.at(-fromEnd)! > 1) position += (rest % length) * stride;
    rest = Math.floor(rest / length);
    stride *= axes.at(-fromEnd)!;
  }
  return position;
}
