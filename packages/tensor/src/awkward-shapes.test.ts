import { describe, expect, test } from 'vitest';
import { differenceByLargest } from '../../../test/numeric/greatest-difference.js';
import { add, argMax, max, mean, softmax, sum } from './arithmetic.js';
import { boolAttribute, execute, typeAttribute } from './execute.js';
import { concat, gather, pad, roll, scatter, slice, split, transpose } from './layout.js';
import { scope, type Tensor } from './tensor.js';
import { cast, tensorOf, toFloat32Array, toInt32Array } from './transfer.js';

// Ops choose how they walk a tensor by its shape and its type: these shapes take every way, and are compared with plain loops.

type Shape = readonly number[];
const sizeOf = (shape: Shape) => shape.reduce((product, length) => product * length, 1);
/** Small integers, which every type has exactly. */
const numbersOf = (shape: Shape) => Float32Array.from({ length: sizeOf(shape) }, (_, i) => (i * 37) % 251);

/** Place of an element along each axis. */
function placeOf(index: number, shape: Shape): number[] {
  const place = new Array<number>(shape.length);
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    place[axis] = index % shape[axis]!;
    index = Math.floor(index / shape[axis]!);
  }
  return place;
}
const indexOf = (place: readonly number[], shape: Shape) =>
  place.reduce((index, at, axis) => index * shape[axis]! + at, 0);

/** The elements of a tensor of this shape, each from its place. */
const elements = (shape: Shape, at: (place: number[]) => number) =>
  Float32Array.from({ length: sizeOf(shape) }, (_, i) => at(placeOf(i, shape)));

describe.each(['float32', 'bfloat16', 'float16', 'uint8'] as const)('%s', (dtype) => {
  /** The result as numbers, computed in this type. */
  const computed = (shape: Shape, op: (x: Tensor) => Tensor) =>
    scope(() => toFloat32Array(op(cast(tensorOf(numbersOf(shape), shape), dtype))));

  test.each<[Shape, Shape]>([
    [
      [1, 1],
      [1, 0],
    ],
    [
      [33, 70],
      [1, 0],
    ],
    [
      [64, 32],
      [1, 0],
    ],
    [
      [3, 40, 36],
      [0, 2, 1],
    ],
    [
      [2, 3, 5],
      [2, 0, 1],
    ],
    [
      [5, 3, 8],
      [1, 0, 2],
    ],
    [
      [2, 3, 4, 16],
      [0, 2, 1, 3],
    ],
    [
      [2, 1, 3, 2, 2],
      [4, 1, 3, 0, 2],
    ],
    [
      [0, 3],
      [1, 0],
    ],
  ])('transpose of %j by %j', (shape, order) => {
    const x = numbersOf(shape);
    const to = order.map((axis) => shape[axis]!);
    const expected = elements(
      to,
      (place) =>
        x[
          indexOf(
            shape.map((_, axis) => place[order.indexOf(axis)]!),
            shape,
          )
        ]!,
    );
    expect(computed(shape, (tensor) => transpose(tensor, order))).toEqual(expected);
  });

  test.each<[Shape, Shape, Shape]>([
    [
      [7, 16],
      [0, 8],
      [7, 8],
    ],
    [
      [7, 16],
      [2, 3],
      [4, 5],
    ],
    [
      [3, 4, 8],
      [1, 2, 0],
      [2, 2, 8],
    ],
    [
      [2, 3, 2, 3],
      [1, 0, 1, 1],
      [1, 3, 1, 2],
    ],
    [[5], [5], [0]],
  ])('slice of %j from %j of %j, and the padding that undoes it', (shape, begin, size) => {
    const x = numbersOf(shape);
    const part = elements(
      size,
      (place) =>
        x[
          indexOf(
            place.map((at, axis) => at + begin[axis]!),
            shape,
          )
        ]!,
    );
    expect(computed(shape, (tensor) => slice(tensor, begin, size))).toEqual(part);
    const paddings = shape.map((length, axis) => [begin[axis]!, length - begin[axis]! - size[axis]!] as const);
    const inside = (place: number[]) =>
      place.every((at, axis) => at >= begin[axis]! && at < begin[axis]! + size[axis]!);
    const padded = elements(shape, (place) => (inside(place) ? x[indexOf(place, shape)]! : 0));
    expect(computed(shape, (tensor) => pad(slice(tensor, begin, size), paddings))).toEqual(padded);
  });

  test.each<[Shape, number, Shape]>([
    [[3, 24], 1, [8, 16]],
    [[3, 24], 1, [1, 20, 3]],
    [[6, 5], 0, [1, 2, 3]],
    [[2, 6, 4], 1, [2, 0, 4]],
    [[1000], 0, Array.from({ length: 200 }, (_, i) => (i % 9) + 1)],
  ])('split of %j along axis %j, and concat', (shape, axis, sizes) => {
    const lengths = [...sizes];
    lengths[lengths.length - 1]! += shape[axis]! - sizes.reduce((total, size) => total + size, 0);
    const x = numbersOf(shape);
    scope(() => {
      const pieces = split(cast(tensorOf(x, shape), dtype), lengths, axis);
      let first = 0;
      for (const [i, piece] of pieces.entries()) {
        const from = first;
        const at = (place: number[]) =>
          x[
            indexOf(
              place.map((one, along) => (along === axis ? one + from : one)),
              shape,
            )
          ]!;
        expect(toFloat32Array(piece)).toEqual(elements(piece.shape, at));
        first += lengths[i]!;
      }
      expect(toFloat32Array(concat(pieces, axis))).toEqual(x);
    });
  });

  test.each([3, 16, 0])('roll, gather of rows that are %i wide', (width) => {
    const x = numbersOf([9, width]);
    const indices = Int32Array.of(8, 0, 0, 5);
    const rows = elements([4, width], ([row, column]) => x[indices[row!]! * width + column!]!);
    expect(computed([9, width], (tensor) => gather(tensor, tensorOf(indices, [4])))).toEqual(rows);
    if (width === 0) return;
    const rolled = elements([9, width], ([row, column]) => x[row! * width + ((column! + 1) % width)]!);
    expect(computed([9, width], (tensor) => roll(tensor, -1))).toEqual(rolled);
  });
});

describe.each(['float32', 'bfloat16'] as const)('arithmetic in %s', (dtype) => {
  const tensor = (shape: Shape) => cast(tensorOf(numbersOf(shape), shape), dtype);
  /** Compares sums, which the type rounds. */
  const close = (actual: Float32Array, expected: Float32Array) => {
    expect(actual.length).toBe(expected.length);
    const tolerance = dtype === 'float32' ? 1e-6 : 1 / 256;
    const far = expected.findIndex((number, i) => Math.abs(actual[i]! - number) > tolerance * Math.abs(number));
    expect([far, actual[far], expected[far]]).toEqual([-1, undefined, undefined]);
  };

  test.each<[Shape, Shape]>([
    [[], [4]],
    [[5, 8], [8]],
    [
      [5, 8],
      [5, 1],
    ],
    [[5, 7], [7]],
    [
      [3, 1],
      [1, 16],
    ],
    [
      [2, 3, 8],
      [3, 1],
    ],
    [
      [2, 1, 3, 1, 8],
      [1, 2, 1, 2, 8],
    ],
    [[0, 4], [4]],
  ])('a sum of %j and %j', (left, right) => {
    const rank = Math.max(left.length, right.length);
    const full = (shape: Shape) => [...new Array<number>(rank - shape.length).fill(1), ...shape];
    const shape = full(left).map((length, axis) => (length === 1 ? full(right)[axis]! : length));
    const from = (own: Shape) => {
      const numbers = numbersOf(own);
      return (place: number[]) =>
        numbers[
          indexOf(
            place.map((at, axis) => Math.min(at, full(own)[axis]! - 1)),
            full(own),
          )
        ]!;
    };
    const a = from(left);
    const b = from(right);
    scope(() =>
      close(
        toFloat32Array(add(tensor(left), tensor(right))),
        elements(shape, (place) => a(place) + b(place)),
      ),
    );
  });

  test.each<[Shape, Shape]>([
    [[3, 5], [1]],
    [[2, 9000], [1]],
    [[300, 7], [0]],
    [[2, 130, 6], [1]],
    [[4, 1, 6], [1]],
    [
      [2, 3, 4, 5],
      [0, 2],
    ],
    [
      [2, 3, 4, 5],
      [1, 2],
    ],
    [
      [2, 3, 4, 5],
      [1, 3],
    ],
    [[20_000], [0]],
    [[3], []],
  ])('sum, mean and maximum of %j over %j', (shape, axes) => {
    const x = numbersOf(shape);
    const kept = shape.filter((_, axis) => !axes.includes(axis));
    const groups = Array.from({ length: sizeOf(kept) }, (): number[] => []);
    for (const [i, number] of x.entries()) {
      const place = placeOf(i, shape);
      groups[
        indexOf(
          place.filter((_, axis) => !axes.includes(axis)),
          kept,
        )
      ]!.push(number);
    }
    const total = (numbers: number[]) => numbers.reduce((sum, number) => sum + number, 0);
    const plain: Record<string, (numbers: number[]) => number> = {
      Sum: total,
      Mean: (numbers) => total(numbers) / numbers.length,
      Max: (numbers) => Math.max(...numbers),
    };
    for (const [name, of] of Object.entries(plain)) {
      scope(() => {
        const attributes = [
          typeAttribute('T', dtype),
          typeAttribute('Tidx', 'int32'),
          boolAttribute('keep_dims', false),
        ];
        const result = execute(name, attributes, [tensor(shape), tensorOf(Int32Array.from(axes), [axes.length])]);
        expect(result.shape).toEqual(kept);
        close(toFloat32Array(result), Float32Array.from(groups, of));
      });
    }
  });

  test('a sum over no axis, and of nothing', () => {
    scope(() => {
      expect(toFloat32Array(sum(tensor([0, 3]), 0))).toEqual(new Float32Array(3));
      expect(toFloat32Array(sum(tensor([2, 0]), 1))).toEqual(new Float32Array(2));
      expect(toFloat32Array(mean(tensor([4, 2]), 0))).toHaveLength(2);
      expect(toFloat32Array(max(tensor([1]), 'all'))).toEqual(Float32Array.of(0));
    });
  });

  test.each([1, 2, 127, 1000, 5001])('softmax and the largest of rows of %i', (width) => {
    const shape = [3, width];
    const x = numbersOf(shape);
    const plain = new Float32Array(x.length);
    for (let row = 0; row < x.length; row += width) {
      const own = x.subarray(row, row + width);
      const greatest = Math.max(...own);
      const total = own.reduce((sum, number) => sum + Math.exp(number - greatest), 0);
      for (const [column, number] of own.entries()) plain[row + column] = Math.exp(number - greatest) / total;
    }
    const largest = Int32Array.from({ length: 3 }, (_, row) => {
      const own = x.subarray(row * width, (row + 1) * width);
      return own.indexOf(Math.max(...own));
    });
    scope(() => {
      const result = toFloat32Array(softmax(tensor(shape)));
      expect(differenceByLargest(result, plain)).toBeLessThan(dtype === 'float32' ? 1e-6 : 1 / 128);
      expect(toInt32Array(argMax(tensor(shape)))).toEqual(largest);
    });
  });

  test.each([5, 300])('scatter of rows that are %i wide, some to the same row', (width) => {
    const indices = Int32Array.of(3, 0, 3, 1, 3);
    const updates = numbersOf([5, width]).map((number) => number % 16); // whose sums every type has exactly
    const expected = elements([6, width], ([row, column]) =>
      indices.reduce((total, index, i) => (index === row ? total + updates[i * width + column!]! : total), 0),
    );
    scope(() => {
      const x = cast(tensorOf(updates, [5, width]), dtype);
      expect(toFloat32Array(scatter(tensorOf(indices, [5]), x, 6))).toEqual(expected);
      expect(toFloat32Array(scatter(tensorOf(new Int32Array(0), [0]), slice(x, [0, 0], [0, width]), 2))).toEqual(
        new Float32Array(2 * width),
      );
    });
  });
});
