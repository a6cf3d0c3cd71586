import type { KernelSet } from '../kernels/kernel-table.js';
import type { Kernels } from '../kernels/kernels.js';
import type { FloatDType, Tensor } from '../tensor.js';
import { cast, tensorOf, tensorOfBytes } from '../transfer.js';

/**
 * The subject of a case. A `kernel` has a plain variant, and its name is one that chooseKernels can avoid. Without an
 * `op` or a `product` nothing can be computed. `training`: everything together.
 */
export interface CaseSubject {
  kind: 'kernel' | 'op' | 'product' | 'training';
  name: string;
}

/**
 * The tolerance between two results. `elements`: each number by `relative` of itself plus `absolute` of the root mean square of
 * its tensor, or of its row of `rowSize` numbers where that is larger. `vector`: the difference of the tensors, as vectors, by
 * `relative` of the length of the expected one.
 */
export type CaseTolerance =
  | { kind: 'elements'; relative: number; absolute: number; rowSize?: number }
  | { kind: 'vector'; relative: number };

/** One computation that the card and the CPU must agree on, and fused kernels with plain ones. */
export interface NumericCase {
  /** Its users. @defaultValue the self-test of a card, and tests */
  checks?: 'self-test';
  /** Unique; says what is computed, on what. */
  name: string;
  /** The subject that cannot be trusted if the case fails. */
  subject: CaseSubject;
  tolerance: CaseTolerance;
  /** The same numbers on every call and in every process, but for how these kernels round them. What is synchronous runs in a scope. */
  compute(kernels: KernelSet): Readonly<Record<string, Tensor>> | Promise<Readonly<Record<string, Float32Array>>>;
}

/**
 * The tolerance between two results of a test: each number by `relative` of the largest number of its tensor, or of 0.001 where that is
 * larger; or in no bit.
 */
export type TestTolerance = CaseTolerance | { kind: 'largest'; relative: number } | { kind: 'bits' };

/** One computation of tests alone: a card's self-test does without, since a kernel that fails it fails another case, too. */
export interface TestCase {
  checks: 'tests';
  name: string;
  tolerance: TestTolerance;
  compute: TestComputation;
  /** Another computation with the same results, and the kernels that compute it. @defaultValue the same one with plain kernels */
  reference?: { kernels: 'same' | 'plain'; compute: TestComputation };
}

export type TestComputation = (kernels: KernelSet) => Readonly<Record<string, Tensor>>;

/**
 * `small`: every kernel and dtype on shapes of a few hundred numbers. `full`: also on shapes of a real training, which reach
 * every tile, every stage of a pipeline and more than one block of each kernel.
 */
export type CaseSizes = 'small' | 'full';

/** @returns the subject of a kernel of the table, named as `chooseKernels` avoids it */
export function kernelSubject(kernel: keyof Kernels, dtype: FloatDType, headDim?: number): CaseSubject {
  return { kind: 'kernel', name: [kernel, dtype, ...(headDim === undefined ? [] : [headDim])].join(':') };
}

/** @returns a case of tests, which compares fused kernels with plain ones unless it has a reference */
export function testCase(
  name: string,
  tolerance: TestTolerance,
  compute: TestComputation,
  reference?: TestCase['reference'],
): TestCase {
  return { checks: 'tests', name, tolerance, compute, ...(reference && { reference }) };
}

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

// How far card and CPU may differ. A number may differ by `relative` of itself plus `absolute` of the root mean square of its
// tensor. The first is for the rounding of the result, the second for that of the terms of a sum, which may cancel.

/** Moving, comparing and counting have one right result. */
export const EXACT: CaseTolerance = { kind: 'elements', relative: 0, absolute: 0 };

/**
 * One operation on each number. Both sides compute in float32, with approximations of `exp`, `tanh` and the like that are
 * right to a few units of the last place (2⁻²³). In bfloat16 both round a nearly equal number, which next to the
 * middle between two falls on either side: one unit of its last place, 2⁻⁷ of a number at most.
 */
export const SINGLE_OP: Record<FloatDType, CaseTolerance> = {
  float32: { kind: 'elements', relative: 2 ** -18, absolute: 2 ** -20 },
  bfloat16: { kind: 'elements', relative: 2 ** -7, absolute: 2 ** -20 },
};

/**
 * Sums of products, in another order on each side. The rounding of n terms grows with √n: 2⁻²⁴ × √4096 = 2⁻¹⁸ of the
 * root mean square for one standard deviation, and some tens of thousands of numbers reach 4.5 of these. TF32,
 * whose products are right to 2⁻¹¹, would exceed it more than tenfold.
 */
export const SUM: Record<FloatDType, CaseTolerance> = {
  float32: { kind: 'elements', relative: 2 ** -17, absolute: 2 ** -15 },
  bfloat16: { kind: 'elements', relative: 2 ** -7, absolute: 2 ** -15 },
};

/**
 * Softmax, and a scatter that adds slices: in bfloat16 TensorFlow's kernels for the CPU round each exponential, sum and addition
 * to it, a few times 2⁻⁹ of what it is; the card computes them in float32.
 */
export const ROUNDED_IN_STEPS: Record<FloatDType, CaseTolerance> = {
  float32: SUM.float32,
  bfloat16: { kind: 'elements', relative: 2 ** -5, absolute: 2 ** -6 },
};

/**
 * A product that is added to what is there: rounded once, or, where a kernel does it in two steps, twice, first the product
 * by 2⁻⁹ of itself. What is there may cancel most of it.
 */
export const ADDED_PRODUCT: Record<FloatDType, CaseTolerance> = {
  float32: SUM.float32,
  bfloat16: { kind: 'elements', relative: 2 ** -7, absolute: 2 ** -6 },
};

/**
 * Attention, and its gradient, of a head: a number may differ by `absolute` of the root mean square of its head's numbers, or of
 * those at the same positions where these are larger (byPosition).
 *
 * Rounding to bfloat16 moves a number by up to 2⁻⁸ of itself, and by 2⁻⁹·² = 0.0017 in the root mean square. A number here is a sum of up
 * to a thousand terms, a weight or a score's gradient times a vector, and each term has the roundings of a query and a key (which
 * move a score by √2 × 0.0017, and its weight by as much of itself), of the weight or gradient, and of the output in delta, five in all
 * with that of the vector. They are as independent as the terms are, so that their sum differs by √5 × 0.0017 = 2⁻⁸ of the size of the
 * number, if one side has them and the other has not. The largest of a million numbers is 4.9 of these: 0.019. `absolute` is 1.7 times
 * that, since a weight of many terms is not one of many equal terms. `relative` is for the rounding of the result on both sides. A key too
 * few among the last of a thousand exceeds the tolerance five times, a wrong tile ten times (test/self-test).
 *
 * In float32 the same holds with 2⁻²⁴ for 2⁻⁸; `exp` and sums in another order have some units more.
 */
export const ATTENTION: Record<FloatDType, Extract<CaseTolerance, { kind: 'elements' }>> = {
  float32: { kind: 'elements', relative: 2 ** -15, absolute: 2 ** -14 },
  bfloat16: { kind: 'elements', relative: 2 ** -6, absolute: 2 ** -5 },
};

/**
 * A whole training step: as a vector, the gradient may differ by this share of its length. In bfloat16 each of some thirty
 * roundings on the way through a layer and back moves it by up to 2⁻⁹, in directions that are nearly independent; fused
 * and plain kernels of the CPU differ by 0.003. In float32 they differ by 3 × 10⁻⁷, and TF32 would exceed the limit.
 */
export const TRAINING_STEP: Record<FloatDType, CaseTolerance> = {
  float32: { kind: 'vector', relative: 2 ** -17 },
  bfloat16: { kind: 'vector', relative: 2 ** -6 },
};

/**
 * Whole tensors of fused kernels and of TensorFlow's own ops, in tests. In float32 they differ by the order of sums only. In bfloat16
 * both round their results, and the raw ops round between steps too: a few units of 2⁻⁸ of the largest number.
 */
export const FUSED_AND_PLAIN: Record<FloatDType, TestTolerance> = {
  float32: { kind: 'largest', relative: 1e-5 },
  bfloat16: { kind: 'largest', relative: 4 * 2 ** -8 },
};

/** The same kernels on the same numbers, with others around them. */
export const SAME_BITS: TestTolerance = { kind: 'bits' };
