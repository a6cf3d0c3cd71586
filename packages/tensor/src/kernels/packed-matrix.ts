import type { OpAttribute } from '../binding.js';
import { elementType, execute, intAttribute, typeAttribute } from '../execute.js';
import { type DType, type FloatDType, scope, type Tensor } from '../tensor.js';
import { cast, tensorOf } from '../transfer.js';
import { productOfEach, type RowSections } from './grouped-product.js';

/** Weights `[rows, columns]` in fewer bits than they are computed with; what the ops compute: see Kernels. */
export interface PackedRows {
  readonly rows: number;
  readonly columns: number;
  /** The fused ops: the product with a matrix for each group of rows, and what decodes rows. */
  readonly ops: {
    readonly groupedProduct: string;
    readonly dequantize: string;
    readonly attributes: readonly OpAttribute[];
  };
  /** The tensors that its fused ops take. */
  readonly inputs: readonly Tensor[];
  /** Rows that plain ops decode, `[count, columns]` float32. */
  decodedRows(first: number, count: number): Tensor;
  dispose(): void;
}

/** {@link PackedRows} that are one matrix, with a fused product, also with an adapter. */
export interface PackedMatrix extends PackedRows {
  readonly ops: PackedRows['ops'] & {
    readonly product: string;
    readonly adaptedForward: string;
    readonly adaptedBackward: string;
  };
}

export function fusedDequantizeRows(weights: PackedRows, first: number, count: number, dtype: FloatDType): Tensor {
  return scope(() => {
    const { dequantize, attributes } = weights.ops;
    const range = tensorOf(Int32Array.of(weights.rows, weights.columns, first, count), [4]);
    return execute(dequantize, [typeAttribute('T', dtype), ...attributes], [...weights.inputs, range]);
  });
}

/** The most that is decoded at a time on a GPU. */
export const MOST_DECODED_BYTES = 2 ** 28;
/** kMostFewRows and kFewRowsDepth of native/ops/quantized/quantized_box.h */
const MOST_FEW_ROWS = 16;
const FEW_ROWS_DEPTH = 64;

/** True if a GPU multiplies these rows with the transposed weights without decoding them to memory. */
export function hasFewRows(a: Tensor, { columns }: PackedRows): boolean {
  return a.dtype === 'bfloat16' && a.shape[0]! <= MOST_FEW_ROWS && columns % FEW_ROWS_DEPTH === 0;
}

export function fusedQuantizedProduct(
  kernelsFor: KernelsOfPacked,
  a: Tensor,
  weights: PackedMatrix,
  transposed: boolean,
): Tensor {
  // The fused product of processors has nothing to sum.
  if (a.size === 0) return rawQuantizedProduct(kernelsFor, a, weights, transposed);
  return quantizedProductInPieces(a, weights, transposed, MOST_DECODED_BYTES);
}

/** @param mostDecodedBytes on a GPU, the bytes of the weights that are decoded at a time */
export function quantizedProductInPieces(
  a: Tensor,
  weights: PackedMatrix,
  transposed: boolean,
  mostDecodedBytes: number,
): Tensor {
  return scope(() => {
    const { product, attributes } = weights.ops;
    const shape = [
      elementType(a),
      intAttribute('transpose_b', Number(transposed)),
      intAttribute('rows', weights.rows),
      intAttribute('columns', weights.columns),
      intAttribute('most_decoded_bytes', mostDecodedBytes),
    ];
    return execute(product, [...shape, ...attributes], [a, ...weights.inputs]);
  });
}

/** The kernels of a dtype that the plain product is made of. The table passes its own, so that this file does not import it. */
export type KernelsOfPacked = (dtype: DType) => {
  matMul(a: Tensor, b: Tensor, transposeA: boolean, transposeB: boolean): Tensor;
  dequantizeRows(weights: PackedRows, first: number, count: number, dtype: FloatDType): Tensor;
};

export function rawQuantizedProduct(
  kernelsFor: KernelsOfPacked,
  a: Tensor,
  weights: PackedMatrix,
  transposed: boolean,
): Tensor {
  const { dequantizeRows, matMul } = kernelsFor(a.dtype);
  return scope(() => {
    const decoded = dequantizeRows(weights, 0, weights.rows, a.dtype as FloatDType);
    return matMul(a, decoded, false, transposed);
  });
}

/** The rows of each group's matrix: as many for all. */
function rowsOfGroup({ rows }: PackedRows, { offsets }: RowSections): number {
  return rows / (offsets.length - 1);
}

export function fusedGroupedPackedProduct(
  a: Tensor,
  weights: PackedRows,
  sections: RowSections,
  transposed: boolean,
): Tensor {
  return groupedPackedProductInPieces(a, weights, sections, transposed, MOST_DECODED_BYTES);
}

/** @param mostDecodedBytes on a GPU, the bytes of the weights that are decoded at a time, at least those of a group */
export function groupedPackedProductInPieces(
  a: Tensor,
  weights: PackedRows,
  sections: RowSections,
  transposed: boolean,
  mostDecodedBytes: number,
): Tensor {
  const { groupedProduct, attributes } = weights.ops;
  const shape = [
    elementType(a),
    intAttribute('transpose_b', Number(transposed)),
    intAttribute('rows', rowsOfGroup(weights, sections)),
    intAttribute('columns', weights.columns),
    intAttribute('most_decoded_bytes', mostDecodedBytes),
  ];
  return scope(() => execute(groupedProduct, [...shape, ...attributes], [a, ...weights.inputs, sections.tensor]));
}

/** Each group's weights are decoded by themselves. */
export function rawGroupedPackedProduct(
  kernelsFor: KernelsOfPacked,
  a: Tensor,
  weights: PackedRows,
  sections: RowSections,
  transposed: boolean,
): Tensor {
  const rows = rowsOfGroup(weights, sections);
  const { dequantizeRows, matMul } = kernelsFor(a.dtype);
  return productOfEach(a, sections, transposed ? rows : weights.columns, (ofGroup, group) =>
    scope(() => {
      const decoded = dequantizeRows(weights, group * rows, rows, a.dtype as FloatDType);
      return matMul(ofGroup, decoded, false, transposed);
    }),
  );
}

export function rawDequantizeRows(weights: PackedRows, first: number, count: number, dtype: FloatDType): Tensor {
  return scope(() => cast(weights.decodedRows(first, count), dtype));
}
