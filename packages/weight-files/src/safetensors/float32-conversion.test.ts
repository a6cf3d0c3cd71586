import { describe, expect, test } from 'vitest';
import {
  bfloat16ToFloat32,
  float16ToFloat32,
  float32ToBfloat16,
  float32ToFloat16,
  fromFloat32,
  SafetensorsError,
  toFloat32,
  viewAs16Bit,
  viewAsFloat32,
} from './dtype.js';

const words = (bytes: Uint8Array) => [...new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2)];
const float32OfBits = (...bits: number[]) => new Float32Array(new Uint32Array(bits).buffer);
const every16BitWord = Uint16Array.from({ length: 65_536 }, (_, index) => index);

describe('bfloat16', () => {
  test.each([
    ['exact', 0x3f800000, 0x3f80],
    ['below the middle', 0x3f807fff, 0x3f80],
    ['the middle goes to even, down', 0x3f808000, 0x3f80],
    ['the middle goes to even, up', 0x3f818000, 0x3f82],
    ['above the middle', 0x3f808001, 0x3f81],
    ['the largest float32 rounds to infinity', 0x7f7fffff, 0x7f80],
    ['infinity', 0xff800000, 0xff80],
    ['minus zero', 0x80000000, 0x8000],
    ['a NaN with only low bits', 0x7f800001, 0x7fc0],
    ['a negative NaN', 0xffffffff, 0xffff],
    ['subnormal', 0x00018000, 0x0002],
  ])('%s', (_, bits, expected) => {
    expect(words(float32ToBfloat16(float32OfBits(bits)))).toEqual([expected]);
  });

  test('every word except signalling NaNs is restored', () => {
    const back = words(float32ToBfloat16(bfloat16ToFloat32(new Uint8Array(every16BitWord.buffer))));
    const isNaN16 = (word: number) => (word & 0x7fff) > 0x7f80;
    expect(back.filter((word, index) => word !== (isNaN16(index) ? index | 0x40 : index))).toEqual([]);
  });
});

describe('float16', () => {
  test.each([
    ['1', 0x3c00, 1],
    ['-2', 0xc000, -2],
    ['largest', 0x7bff, 65_504],
    ['smallest normal', 0x0400, 2 ** -14],
    ['smallest', 0x0001, 2 ** -24],
    ['minus zero', 0x8000, -0],
    ['infinity', 0x7c00, Number.POSITIVE_INFINITY],
    ['NaN', 0x7e00, Number.NaN],
  ])('%s to float32', (_, word, expected) => {
    expect(float16ToFloat32(new Uint8Array(Uint16Array.of(word).buffer))[0]).toBe(expected);
  });

  test.each([
    ['the middle goes to even, down', 1 + 2 ** -11, 0x3c00],
    ['the middle goes to even, up', 1 + 3 * 2 ** -11, 0x3c02],
    ['just under the overflow', 65_519.99, 0x7bff],
    ['overflow', 65_520, 0x7c00],
    ['subnormal, middle to even', 1.5 * 2 ** -24, 0x0002],
    ['half of the smallest rounds to zero', 2 ** -25, 0x0000],
    ['more than half of the smallest', 2 ** -25 * 1.0001, 0x0001],
    ['a float32 subnormal', 1e-40, 0x0000],
    ['subnormal that rounds up to normal', 2 ** -14 - 2 ** -26, 0x0400],
    ['minus infinity', Number.NEGATIVE_INFINITY, 0xfc00],
  ])('from float32: %s', (_, value, expected) => {
    expect(words(float32ToFloat16(Float32Array.of(value)))).toEqual([expected]);
  });

  test('every word is restored; a NaN becomes quiet', () => {
    const back = words(float32ToFloat16(float16ToFloat32(new Uint8Array(every16BitWord.buffer))));
    const isNaN16 = (word: number) => (word & 0x7fff) > 0x7c00;
    expect(back.filter((word, index) => word !== (isNaN16(index) ? index | 0x200 : index))).toEqual([]);
  });

  test('a value between two neighbours rounds to the nearer one, over the whole range', () => {
    const neighbours = float16ToFloat32(new Uint8Array(every16BitWord.slice(0, 0x7c00).buffer));
    const between = neighbours.slice(1).map((high, index) => neighbours[index]! + (high - neighbours[index]!) * 0.49);
    const rounded = words(float32ToFloat16(between));
    expect(rounded.filter((word, index) => word !== index)).toEqual([]);
  });
});

test('toFloat32 and fromFloat32 convert by dtype', () => {
  const values = Float32Array.of(1.5, -3);
  for (const dtype of ['F32', 'F16', 'BF16'] as const) {
    expect([...toFloat32(fromFloat32(values, dtype), dtype)]).toEqual([1.5, -3]);
  }
  expect(() => toFloat32(new Uint8Array(4), 'I32')).toThrow(SafetensorsError);
});

test('aligned bytes are viewed, not copied', () => {
  const bytes = new Uint8Array([0, 0, 0x80, 0x3f, 0, 0, 0, 0x40]);
  const view = viewAsFloat32(bytes);
  expect([...view]).toEqual([1, 2]);
  expect(view.buffer).toBe(bytes.buffer);
});

test('bytes at an odd offset are copied, including those of a Buffer', () => {
  const buffer = Buffer.from([9, 0, 0, 0x80, 0x3f]).subarray(1);
  expect([...viewAsFloat32(buffer)]).toEqual([1]);
  expect([...viewAs16Bit(buffer)]).toEqual([0, 0x3f80]);
});

test('an incomplete number is rejected', () => {
  expect(() => viewAs16Bit(new Uint8Array(3))).toThrow(RangeError);
  expect(() => viewAsFloat32(new Uint8Array(6))).toThrow(RangeError);
});
