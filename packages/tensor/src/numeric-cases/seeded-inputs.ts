import type { FloatDType } from '../dtype.js';
import type { Tensor } from '../tensor.js';
import { cast, tensorOf, tensorOfBytes } from '../transfer.js';

/**
 * Numbers from -√3 to √3, evenly distributed, so with a variance of 1: the same for the same shape and seed in every
 * process. Products of many of them behave like those of normal numbers. (mulberry32)
 */
export function seededNumbers(shape: readonly number[], seed: number): Float32Array {
  const count = shape.reduce((product, dimension) => product * dimension, 1);
  const numbers = new Float32Array(count);
  const scale = (2 * Math.sqrt(3)) / 2 ** 32;
  let state = Math.imul(seed + 1, 0x9e3779b1);
  for (let i = 0; i < count; i++) {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    numbers[i] = ((mixed ^ (mixed >>> 14)) >>> 0) * scale - Math.sqrt(3);
  }
  return numbers;
}

/** {@link seededNumbers} as a tensor. */
export function seededTensor(shape: readonly number[], seed: number, dtype: FloatDType = 'float32'): Tensor {
  return cast(tensorOf(seededNumbers(shape, seed), shape), dtype);
}

/** {@link seededNumbers} that are scaled: from -spread to spread. */
export function spreadTensor(
  shape: readonly number[],
  seed: number,
  spread: number,
  dtype: FloatDType = 'float32',
): Tensor {
  const factor = spread / Math.sqrt(3);
  const numbers = seededNumbers(shape, seed).map((value) => factor * value);
  return cast(tensorOf(numbers, shape), dtype);
}

/** The absolute values of {@link seededNumbers}, and a little more: none is zero. */
export function positiveTensor(shape: readonly number[], seed: number, dtype: FloatDType = 'float32'): Tensor {
  const numbers = seededNumbers(shape, seed).map((value) => Math.abs(value) + 0.05);
  return cast(tensorOf(numbers, shape), dtype);
}

/** Bytes as a tensor: 0 to 255, or what `change` makes of them. */
export function seededBytes(count: number, seed: number, change = (byte: number) => byte): Tensor {
  const numbers = seededNumbers([count], seed);
  // A loop: `Uint8Array.from` takes 20 times as long, and a card's weights have 25 million.
  const bytes = new Uint8Array(count);
  for (let i = 0; i < count; i++) bytes[i] = change(Math.floor(((numbers[i]! / Math.sqrt(3) + 1) / 2) * 255.9));
  return tensorOfBytes(bytes, [count], 'uint8');
}

/** Integers from 0 to `below` - 1. */
export function seededIndices(count: number, below: number, seed: number): Tensor {
  const numbers = seededNumbers([count], seed);
  const indices = Int32Array.from(numbers, (value) => Math.floor(((value / Math.sqrt(3) + 1) / 2) * below));
  return tensorOf(
    indices.map((index) => Math.min(index, below - 1)),
    [count],
  );
}
