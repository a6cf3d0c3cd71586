import { kernelsFor } from './kernels/kernel-table.js';
import type { Tensor } from './tensor.js';

/**
 * Product of two matrices. In bfloat16 the sums are float32 and rounded once at the end.
 * @param a `[m, k]`, or `[k, m]` with `transposeA`
 * @param b `[k, n]`, or `[n, k]` with `transposeB`
 * @returns `[m, n]`
 */
export function matMul(a: Tensor, b: Tensor, options: { transposeA?: boolean; transposeB?: boolean } = {}): Tensor {
  return kernelsFor(a.dtype).matMul(a, b, options.transposeA ?? false, options.transposeB ?? false);
}

/**
 * `addend + a b`, rounded once where the kernel in use can.
 * @param addend `[m, n]`
 * @param a `[m, k]`
 * @param b `[k, n]`, or `[n, k]` with `transposeB`
 */
export function addMatMul(addend: Tensor, a: Tensor, b: Tensor, options: { transposeB?: boolean } = {}): Tensor {
  return kernelsFor(a.dtype).addMatMul(addend, a, b, options.transposeB ?? false);
}
