import type { DType } from '../dtype.js';
import { elementType, execute, intAttribute } from '../execute.js';
import { concat, fill, reshape, rowsOf, slice } from '../layout.js';
import { scope, type Tensor } from '../tensor.js';
import { tensorOf } from '../transfer.js';

// What the ops compute: see Kernels.

/** Rows of a matrix in groups, one group behind the other. */
export type RowSections = {
  /** `[groups + 1]`: where each group begins, and where the last ends */
  offsets: Int32Array;
  /** The same for ops. */
  tensor: Tensor;
};

/** @param offsets `[groups + 1]`, ascending from 0 */
export function rowSections(offsets: Int32Array): RowSections {
  return { offsets, tensor: tensorOf(offsets, [offsets.length]) };
}

export function fusedGroupedProduct(a: Tensor, b: Tensor, { tensor }: RowSections, transposed: boolean): Tensor {
  return execute(
    'LorasmithGroupedProduct',
    [elementType(a), intAttribute('transpose_b', Number(transposed))],
    [a, b, tensor],
  );
}

/** The kernels of a dtype that the plain product is made of. The table passes its own, so that this file does not import it. */
export type KernelsOfGroups = (dtype: DType) => {
  matMul(a: Tensor, b: Tensor, transposeA: boolean, transposeB: boolean): Tensor;
};

/** One product for each group that has rows. */
export function rawGroupedProduct(
  kernelsFor: KernelsOfGroups,
  a: Tensor,
  b: Tensor,
  { offsets }: RowSections,
  transposed: boolean,
): Tensor {
  const [groups, rows, columns] = b.shape as [number, number, number];
  const { matMul } = kernelsFor(a.dtype);
  return scope(() => {
    const products = Array.from({ length: groups }, (_, group) => group).flatMap((group) => {
      const first = offsets[group]!;
      const count = offsets[group + 1]! - first;
      if (count === 0) return [];
      const matrix = scope(() => reshape(slice(b, [group, 0, 0], [1, -1, -1]), [rows, columns]));
      const product = matMul(rowsOf(a, { first, count }), matrix, false, transposed);
      matrix.dispose();
      return [product];
    });
    return products.length === 0 ? fill([0, transposed ? rows : columns], 0, a.dtype) : concat(products, 0);
  });
}
