import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { dtypeOf, liveTensorCount, scope } from './tensor.js';
import { cast, parameterVector, tensorOf, tensorOfBytes, toFloat32Array, toInt32Array, toNumber } from './transfer.js';

let before = 0;
beforeEach(() => {
  before = liveTensorCount();
});
afterEach(() => {
  expect(liveTensorCount()).toBe(before);
});

const bytesOf = (numbers: Float32Array | Uint16Array) =>
  new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);

test('float32 and int32 are read back unchanged', () => {
  scope(() => {
    const values = [0, -0, 1.5, -3.25e30, 1e-38, Number.POSITIVE_INFINITY];
    expect([...toFloat32Array(tensorOf(Float32Array.from(values), [2, 3]))]).toEqual([...Float32Array.from(values)]);
    expect(toFloat32Array(tensorOf(Float32Array.of(Number.NaN), [1]))[0]).toBeNaN();
    const integers = [-(2 ** 31), -1, 0, 2 ** 31 - 1];
    expect([...toInt32Array(tensorOf(Int32Array.from(integers), [4]))]).toEqual(integers);
  });
});

test('reading copies', () => {
  scope(() => {
    const tensor = tensorOf(Float32Array.of(1, 2), [2]);
    toFloat32Array(tensor).fill(9);
    expect([...toFloat32Array(tensor)]).toEqual([1, 2]);
  });
});

test('a view into the middle of a buffer starts at its own offset', () => {
  scope(() => {
    const all = Float32Array.of(1, 2, 3, 4, 5);
    expect([...toFloat32Array(tensorOf(all.subarray(1, 4), [3]))]).toEqual([2, 3, 4]);
    const odd = new Uint8Array(9);
    odd.set(bytesOf(Float32Array.of(1.5, -2)), 1);
    expect([...toFloat32Array(tensorOfBytes(odd.subarray(1), [2], 'float32'))]).toEqual([1.5, -2]);
  });
});

describe('bytes of a weight file', () => {
  // Bit patterns from the formats' definitions: sign, exponent (8 or 5 bits), fraction.
  test.each([
    [
      'bfloat16',
      [0x0000, 0x3f80, 0xbf80, 0x4049, 0x7f7f, 0x0080],
      [0, 1, -1, 3.140625, 3.3895313892515355e38, 2 ** -126],
    ],
    ['float16', [0x0000, 0x3c00, 0xbc00, 0x4248, 0x7bff, 0x0001], [0, 1, -1, 3.140625, 65504, 2 ** -24]],
  ] as const)('%s', (dtype, bits, values) => {
    scope(() => {
      const tensor = tensorOfBytes(bytesOf(Uint16Array.from(bits)), [2, 3], dtype);
      expect(tensor).toMatchObject({ dtype, shape: [2, 3] });
      expect([...toFloat32Array(tensor)]).toEqual([...values]);
    });
  });

  test('float32', () => {
    scope(() => {
      const tensor = tensorOfBytes(bytesOf(Float32Array.of(0.1, -7)), [1, 2], 'float32');
      expect([...toFloat32Array(tensor)]).toEqual([Math.fround(0.1), -7]);
    });
  });

  test('too few bytes for the shape are rejected', () => {
    expect(() => scope(() => tensorOfBytes(new Uint8Array(7), [2, 2], 'bfloat16'))).toThrow();
  });
});

test('casting to bfloat16 rounds to the nearest, ties to even', () => {
  scope(() => {
    const step = 2 ** -7; // of bfloat16 between 1 and 2
    const values = [1 + 0.4 * step, 1 + 0.6 * step, 1 + 0.5 * step, 1 + 1.5 * step, -1 - 1.5 * step];
    const rounded = cast(tensorOf(Float32Array.from(values), [5]), 'bfloat16');
    expect([...toFloat32Array(rounded)]).toEqual([1, 1 + step, 1, 1 + 2 * step, -1 - 2 * step]);
  });
});

test('casting to the type it has gives the tensor itself', () => {
  scope(() => {
    const tensor = tensorOf(Float32Array.of(1), [1]);
    expect(cast(tensor, 'float32')).toBe(tensor);
  });
});

test('one number', () => {
  scope(() => {
    expect(toNumber(tensorOf(Float32Array.of(2.5), [1, 1]))).toBe(2.5);
    expect(() => toNumber(tensorOf(Float32Array.of(1, 2), [2]))).toThrow('shape [2] is not one number');
  });
});

test('content whose length differs from the shape is rejected', () => {
  expect(() => scope(() => tensorOf(new Float32Array(3), [2, 2]))).toThrow();
  expect(() => scope(() => tensorOf(new Int32Array(5), [2, 2]))).toThrow();
});

test('a data type that the engine does not support is rejected', () => {
  expect(dtypeOf(14)).toBe('bfloat16');
  expect(() => dtypeOf(7)).toThrow('data type 7');
});

test('a parameter of an op is made once per content, is no live tensor, and is freed when many others were used since', () => {
  const handles = liveTensorCount();
  const first = scope(() => parameterVector([0, -1, 70_000]));
  expect([...toInt32Array(first)]).toEqual([0, -1, 70_000]);
  expect(parameterVector([0, -1, 70_000])).toBe(first);
  expect(parameterVector([0, -17, 70_000])).not.toBe(first);
  expect(parameterVector([]).shape).toEqual([0]);
  for (let i = 0; i < 4000; i++) parameterVector([i, 1]);
  expect(parameterVector([0, -1, 70_000])).toBe(first);
  for (let i = 0; i < 4200; i++) parameterVector([i, 2]);
  expect(first.disposed).toBe(true);
  expect(liveTensorCount()).toBe(handles);
});
