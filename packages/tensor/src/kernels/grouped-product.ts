import { add } from '../arithmetic.js';
import { elementType, execute, intAttribute } from '../execute.js';
import { concat, fill, gather, reshape, rowsOf, slice, split } from '../layout.js';
import { type DType, dispose, scope, type Tensor } from '../tensor.js';
import { cast, tensorOf } from '../transfer.js';

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
  sections: RowSections,
  transposed: boolean,
): Tensor {
  const [, rows, columns] = b.shape as [number, number, number];
  const { matMul } = kernelsFor(a.dtype);
  return productOfEach(a, sections, transposed ? rows : columns, (ofGroup, group) =>
    scope(() => {
      const matrix = reshape(slice(b, [group, 0, 0], [1, -1, -1]), [rows, columns]);
      return matMul(ofGroup, matrix, false, transposed);
    }),
  );
}

/**
 * The products of groups, one behind the other.
 * @param a `[rows, depth]`
 * @param width of a product
 * @param productOf the rows of a group with its matrix
 */
export function productOfEach(
  a: Tensor,
  { offsets }: RowSections,
  width: number,
  productOf: (ofGroup: Tensor, group: number) => Tensor,
): Tensor {
  return scope(() => {
    const products = Array.from({ length: offsets.length - 1 }, (_, group) => group).flatMap((group) => {
      const first = offsets[group]!;
      const count = offsets[group + 1]! - first;
      return count === 0 ? [] : [productOf(rowsOf(a, { first, count }), group)];
    });
    return products.length === 0 ? fill([0, width], 0, a.dtype) : concat(products, 0);
  });
}

export function fusedGatheredSum(x: Tensor, places: Tensor, count: number): Tensor {
  return execute('LorasmithGatheredSum', [elementType(x), intAttribute('count', count)], [x, places]);
}

export function rawGatheredSum(x: Tensor, places: Tensor, count: number): Tensor {
  const width = x.shape[1]!;
  return scope(() => {
    const rows = gather(x, places); // [sums x count, width]
    const parts = split(reshape(rows, [places.size / count, count * width]), new Array(count).fill(width), 1);
    const [first, ...others] = parts;
    let sum = cast(first!, 'float32');
    for (const part of others) {
      const next = add(sum, cast(part, 'float32'));
      dispose(sum);
      sum = next;
    }
    return cast(sum, x.dtype);
  });
}
