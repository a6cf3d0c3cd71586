import { afterEach, beforeEach, expect, test } from 'vitest';
import { engine } from './binding.js';
import * as layout from './layout.js';
import { liveTensorCount, scope, type Tensor } from './tensor.js';
import { cast, constant, tensorOf, toFloat32Array } from './transfer.js';

/** The numbers 0, 1, 2, … in a shape. */
function counting(...shape: number[]): Tensor {
  const size = shape.reduce((product, dimension) => product * dimension, 1);
  return tensorOf(
    Float32Array.from({ length: size }, (_, i) => i),
    shape,
  );
}
const indices = (...values: number[]) => tensorOf(Int32Array.from(values), [values.length]);
const numbers = (tensor: Tensor) => [...toFloat32Array(tensor)];

let before = 0;
beforeEach(() => {
  // Axes, shifts and fill values are constants, which are never freed: not a leak.
  for (const value of [0, 1, 2]) constant(value, 'int32');
  for (const value of [0.5, 1, 9]) constant(value);
  constant(2, 'bfloat16');
  before = liveTensorCount();
});
afterEach(() => {
  expect(liveTensorCount()).toBe(before);
});

test('reshape keeps the order; -1 follows from the other dimensions', () => {
  scope(() => {
    const x = layout.reshape(counting(2, 6), [3, -1]);
    expect(x.shape).toEqual([3, 4]);
    expect(numbers(x)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    expect(layout.reshape(cast(x, 'bfloat16'), [12])).toMatchObject({ dtype: 'bfloat16', shape: [12] });
  });
});

test('a reshape that does not fit throws, names the op and leaves no tensor', () => {
  expect(() => scope(() => layout.reshape(counting(2, 6), [5]))).toThrow('Reshape(float32[2,6]');
});

test('transpose: axis i of the result is axis order[i]', () => {
  scope(() => {
    expect(numbers(layout.transpose(counting(2, 3), [1, 0]))).toEqual([0, 3, 1, 4, 2, 5]);
    const x = layout.transpose(counting(2, 3, 4), [2, 0, 1]);
    expect(x.shape).toEqual([4, 2, 3]);
    expect(numbers(x).slice(0, 6)).toEqual([0, 4, 8, 12, 16, 20]);
  });
});

test('concat along either axis, and of one', () => {
  scope(() => {
    const x = counting(2, 2);
    const y = layout.fill([2, 1], 9);
    expect(numbers(layout.concat([x, y], 1))).toEqual([0, 1, 9, 2, 3, 9]);
    expect(numbers(layout.concat([x, x], 0))).toEqual([0, 1, 2, 3, 0, 1, 2, 3]);
    const alone = layout.concat([x], 0);
    expect(alone).not.toBe(x);
    x.dispose();
    expect(numbers(alone)).toEqual([0, 1, 2, 3]);
  });
});

test('split is the opposite of concat', () => {
  scope(() => {
    const pieces = layout.split(counting(2, 5), [2, 0, 3], 1);
    expect(pieces.map(({ shape }) => shape)).toEqual([
      [2, 2],
      [2, 0],
      [2, 3],
    ]);
    expect(numbers(pieces[2]!)).toEqual([2, 3, 4, 7, 8, 9]);
    expect(numbers(layout.concat(pieces, 1))).toEqual(numbers(counting(2, 5)));
    const [whole] = layout.split(counting(2), [2], 0);
    expect(numbers(whole!)).toEqual([0, 1]);
    expect(() => layout.split(counting(2, 5), [2, 2], 1)).toThrow('SplitV(float32[2,5]');
  });
});

test('slice takes a box; -1 extends to the end', () => {
  scope(() => {
    expect(numbers(layout.slice(counting(3, 4), [1, 1], [2, 2]))).toEqual([5, 6, 9, 10]);
    expect(numbers(layout.slice(counting(3, 4), [2, 0], [1, -1]))).toEqual([8, 9, 10, 11]);
    expect(() => layout.slice(counting(3, 4), [2, 0], [2, 4])).toThrow('Slice(float32[3,4]');
  });
});

test('pad puts zeros around', () => {
  scope(() => {
    const padded = layout.pad(counting(1, 2), [
      [0, 1],
      [2, 1],
    ]);
    expect(padded.shape).toEqual([2, 5]);
    expect(numbers(padded)).toEqual([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
  });
});

test('gather takes rows by index, in any order and more than once', () => {
  scope(() => {
    const rows = layout.gather(counting(3, 2), indices(2, 0, 2));
    expect(rows.shape).toEqual([3, 2]);
    expect(numbers(rows)).toEqual([4, 5, 0, 1, 4, 5]);
    const half = layout.gather(cast(counting(3, 2), 'bfloat16'), indices(1));
    expect(half.dtype).toBe('bfloat16');
    expect(numbers(half)).toEqual([2, 3]);
    const outside = () => numbers(layout.gather(counting(3, 2), indices(3, -1)));
    if (engine.kind === 'cuda') expect(outside()).toEqual([NaN, NaN, NaN, NaN]);
    else expect(outside).toThrow('GatherV2(float32[3,2] int32[2]');
  });
});

test('scatter sets rows, adds those with the same index, and is the transpose of gather', () => {
  scope(() => {
    const scattered = layout.scatter(indices(2, 0, 2), counting(3, 2), 4);
    expect(scattered.shape).toEqual([4, 2]);
    expect(numbers(scattered)).toEqual([2, 3, 0, 0, 4, 6, 0, 0]);
  });
});

test('roll rotates the last axis', () => {
  scope(() => {
    expect(numbers(layout.roll(counting(2, 4), 1))).toEqual([3, 0, 1, 2, 7, 4, 5, 6]);
    expect(numbers(layout.roll(counting(2, 4), 2))).toEqual([2, 3, 0, 1, 6, 7, 4, 5]);
  });
});

test('fill, in every type that the engine fills', () => {
  scope(() => {
    expect(numbers(layout.fill([2, 2], 0.5))).toEqual([0.5, 0.5, 0.5, 0.5]);
    const half = layout.fill([2], 2, 'bfloat16');
    expect(half.dtype).toBe('bfloat16');
    expect(numbers(half)).toEqual([2, 2]);
    expect(layout.fill([], 1).shape).toEqual([]);
    expect(layout.fill([0, 3], 1).size).toBe(0);
  });
});
