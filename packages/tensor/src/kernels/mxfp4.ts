import { add, multiply } from '../arithmetic.js';
import type { FloatDType } from '../dtype.js';
import { elementType, execute, intAttribute } from '../execute.js';
import { concat, gather, reshape, slice } from '../layout.js';
import { dispose, scope, type Tensor } from '../tensor.js';
import { cast, tensorOf } from '../transfer.js';
import { productOfEach, type RowSections } from './grouped-product.js';
import type { KernelsOfPacked, PackedRows } from './packed-matrix.js';

// Weights in MXFP4 (OCP Microscaling Formats 1.0, arXiv:2310.10537): numbers of 4 bits (E2M1), each 32 of a row with a scale, which is
// a power of two in a byte (E8M0).

/** Numbers that share a scale. */
const BLOCK = 32;
/** The first eight numbers of E2M1; the others are their negatives. */
const SIZES = [0, 0.5, 1, 1.5, 2, 3, 4, 6];
const CODES = [...SIZES, ...SIZES.map((size) => -size)];
/** The number of each code at each scale: an op may take subnormal numbers for zero. The last scale is no number. */
const VALUES = Float32Array.from({ length: 256 * 16 }, (_, i) => {
  const scale = Math.floor(i / 16);
  return scale === 255 ? Number.NaN : CODES[i % 16]! * 2 ** (scale - 127);
});

/** Matrices `[rows, columns]` in MXFP4, such as the weights of experts, one below the other. */
export class Mxfp4Matrices implements PackedRows {
  readonly ops = { dequantize: 'LorasmithDequantizeMxfp4', attributes: [] };
  /** The rows of all matrices. */
  readonly rows: number;
  readonly columns: number;
  readonly count: number;
  /** `[bytes]` uint8: two codes each, the first in the lower half. */
  readonly codes: Tensor;
  /** `[blocks]` uint8. */
  readonly scales: Tensor;

  /**
   * Takes the tensors over.
   * @param shape `[matrices, rows, columns]`: columns are a multiple of 32
   */
  constructor([count, rows, columns]: readonly [number, number, number], codes: Tensor, scales: Tensor) {
    if (columns % BLOCK !== 0) throw new Error(`rows of ${columns} numbers are not made of whole blocks`);
    this.count = count;
    this.rows = count * rows;
    this.columns = columns;
    this.codes = codes;
    this.scales = scales;
  }

  get inputs(): Tensor[] {
    return [this.codes, this.scales];
  }

  decodedRows(first: number, count: number): Tensor {
    return scope(() => {
      const numbers = count * this.columns;
      const bytes = cast(slice(this.codes, [(first * this.columns) / 2], [numbers / 2]), 'int32');
      const halves = ['FloorMod', 'FloorDiv'].map((name) =>
        reshape(execute(name, [elementType(bytes)], [bytes, tensorOf(Int32Array.of(16), [])]), [numbers / 2, 1]),
      );
      const scales = cast(slice(this.scales, [(first * this.columns) / BLOCK], [numbers / BLOCK]), 'int32');
      const places = multiply(reshape(scales, [numbers / BLOCK, 1]), tensorOf(Int32Array.of(16), []));
      const indices = add(reshape(concat(halves, 1), [numbers / BLOCK, BLOCK]), places);
      return gather(tensorOf(VALUES, [VALUES.length]), reshape(indices, [count, this.columns]));
    });
  }

  dispose(): void {
    dispose(this.inputs);
  }
}

// What the ops compute: see Kernels.

export function fusedGroupedMxfp4Product(
  a: Tensor,
  weights: Mxfp4Matrices,
  { tensor }: RowSections,
  transposed: boolean,
): Tensor {
  const attributes = [
    elementType(a),
    intAttribute('transpose_b', Number(transposed)),
    intAttribute('rows', weights.rows / weights.count),
    intAttribute('columns', weights.columns),
  ];
  return execute('LorasmithGroupedMxfp4Product', attributes, [a, ...weights.inputs, tensor]);
}

export function rawGroupedMxfp4Product(
  kernelsFor: KernelsOfPacked,
  a: Tensor,
  weights: Mxfp4Matrices,
  sections: RowSections,
  transposed: boolean,
): Tensor {
  const { count, columns } = weights;
  const rows = weights.rows / count;
  const { dequantizeRows, matMul } = kernelsFor(a.dtype);
  const width = transposed ? rows : columns;
  return productOfEach(a, sections, width, (ofGroup, group) =>
    scope(() => {
      const decoded = dequantizeRows(weights, group * rows, rows, a.dtype as FloatDType);
      return matMul(ofGroup, decoded, false, transposed);
    }),
  );
}
