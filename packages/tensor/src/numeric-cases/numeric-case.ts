import type { FloatDType } from '../dtype.js';
import type { KernelSet } from '../kernels/kernel-table.js';
import type { Kernels } from '../kernels/kernels.js';
import type { Tensor } from '../tensor.js';

/**
 * The subject of a case. A `kernel` has a plain variant, and its name is one that chooseKernels can avoid. Without an
 * `op` or a `product` nothing can be computed. `training`: everything together.
 */
export interface CaseSubject {
  kind: 'kernel' | 'op' | 'product' | 'training';
  name: string;
}

/**
 * How far two results may differ. `elements`: each number by `relative` of itself plus `absolute` of the root mean square of
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
 * How far two results of a test may differ: each number by `relative` of the largest number of its tensor, or of 0.001 where that is
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
