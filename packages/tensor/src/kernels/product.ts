import { add } from '../arithmetic.js';
import { boolAttribute, elementType, execute, intAttribute } from '../execute.js';
import { scope, type Tensor } from '../tensor.js';

// What the ops compute: see matrix.ts.

/** True if the fused product has something to sum. Its result for a row does not depend on how many there are. */
function isFusable(a: Tensor, b: Tensor): boolean {
  return a.size > 0 && b.size > 0;
}

export function fusedMatMul(a: Tensor, b: Tensor, transposeA: boolean, transposeB: boolean): Tensor {
  if (transposeA || !isFusable(a, b)) return rawMatMul(a, b, transposeA, transposeB);
  return execute('LorasmithProduct', [elementType(a), intAttribute('transpose_b', Number(transposeB))], [a, b]);
}

export function rawMatMul(a: Tensor, b: Tensor, transposeA: boolean, transposeB: boolean): Tensor {
  const attributes = [
    elementType(a),
    boolAttribute('transpose_a', transposeA),
    boolAttribute('transpose_b', transposeB),
  ];
  return execute('MatMul', attributes, [a, b]);
}

export function fusedAddMatMul(addend: Tensor, a: Tensor, b: Tensor, transposeB: boolean): Tensor {
  if (!isFusable(a, b)) return rawAddMatMul(addend, a, b, transposeB);
  const attributes = [elementType(a), intAttribute('transpose_b', Number(transposeB))];
  return execute('LorasmithProductAdd', attributes, [a, b, addend]);
}

/** The product of the CUDA engine, whose fused product takes any shape. */
export function cudaAddMatMul(addend: Tensor, a: Tensor, b: Tensor, transposeB: boolean): Tensor {
  const attributes = [elementType(a), intAttribute('transpose_b', Number(transposeB))];
  return execute('LorasmithProductAdd', attributes, [a, b, addend]);
}

export function rawAddMatMul(addend: Tensor, a: Tensor, b: Tensor, transposeB: boolean): Tensor {
  return scope(() => add(addend, rawMatMul(a, b, false, transposeB)));
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
