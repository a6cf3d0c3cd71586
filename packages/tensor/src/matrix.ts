import { add } from './arithmetic.js';
import { boolAttribute, elementType, execute } from './execute.js';
import { fusedProduct, productIsFused } from './fused-ops.js';
import { scope, type Tensor } from './tensor.js';

/**
 * Product of two matrices. In bfloat16 the sums are float32 and rounded once at the end.
 * @param a `[m, k]`, or `[k, m]` with `transposeA`
 * @param b `[k, n]`, or `[n, k]` with `transposeB`
 * @returns `[m, n]`
 */
export function matMul(a: Tensor, b: Tensor, options: { transposeA?: boolean; transposeB?: boolean } = {}): Tensor {
  const { transposeA = false, transposeB = false } = options;
  if (!transposeA && productIsFused(a, b, transposeB)) return fusedProduct(a, b, transposeB);
  const attributes = [
    elementType(a),
    boolAttribute('transpose_a', transposeA),
    boolAttribute('transpose_b', transposeB),
  ];
  return execute('MatMul', attributes, [a, b]);
}

/**
 * `addend + a b`, rounded once where the fused ops have it.
 * @param addend `[m, n]`
 * @param a `[m, k]`
 * @param b `[k, n]`, or `[n, k]` with `transposeB`
 */
export function addMatMul(addend: Tensor, a: Tensor, b: Tensor, options: { transposeB?: boolean } = {}): Tensor {
  const { transposeB = false } = options;
  if (productIsFused(a, b, transposeB)) return fusedProduct(a, b, transposeB, addend);
  return scope(() => add(addend, matMul(a, b, options)));
}

/**
 * Products of matrices in the last two axes; the axes before them are the same in both, or broadcast.
 * @param a `[…, m, k]`, or `[…, k, m]` with `transposeA`
 * @param b `[…, k, n]`, or `[…, n, k]` with `transposeB`
 */
export function batchMatMul(
  a: Tensor,
  b: Tensor,
  options: { transposeA?: boolean; transposeB?: boolean } = {},
): Tensor {
  const attributes = [
    elementType(a),
    boolAttribute('adj_x', options.transposeA ?? false),
    boolAttribute('adj_y', options.transposeB ?? false),
  ];
  return execute('BatchMatMulV2', attributes, [a, b]);
}
