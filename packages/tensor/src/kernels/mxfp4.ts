import { add, multiply } from '../arithmetic.js';
import { gather, reshape, slice } from '../layout.js';
import { dispose, scope, type Tensor } from '../tensor.js';
import { cast, constant, tensorOf } from '../transfer.js';
import type { PackedRows } from './packed-matrix.js';

// Weights in MXFP4 (OCP Microscaling Formats 1.0, arXiv:2310.10537): numbers of 4 bits (E2M1), each 32 of a row with a scale, which is
// a power of two in a byte (E8M0).

/** Numbers that share a scale. */
const BLOCK = 32;
/** The first eight numbers of E2M1; the others are their negatives. */
const SIZES = [0, 0.5, 1, 1.5, 2, 3, 4, 6];
const CODES = [...SIZES, ...SIZES.map((size) => -size)];
const BYTES = 256;

let pairs: Float32Array<ArrayBuffer> | null = null;
/** The two numbers of each byte at each scale: an op may take subnormal numbers for zero. The last scale is no number. */
const pairsOfBytes = () =>
  (pairs ??= Float32Array.from({ length: BYTES * BYTES * 2 }, (_, i) => {
    const [scale, byte] = [Math.floor(i / 2 / BYTES), Math.floor(i / 2) % BYTES];
    const code = i % 2 === 0 ? byte & 15 : byte >> 4;
    return scale === 255 ? Number.NaN : CODES[code]! * 2 ** (scale - 127);
  }));

/** Matrices `[rows, columns]` in MXFP4, such as the weights of experts, one below the other. */
export class Mxfp4Matrices implements PackedRows {
  readonly ops = {
    ...{ groupedProduct: 'LorasmithGroupedMxfp4Product', dequantize: 'LorasmithDequantizeMxfp4' },
    attributes: [],
  };
  /** The rows of all matrices. */
  readonly rows: number;
  readonly columns: number;
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
      const blocks = numbers / BLOCK;
      const bytes = reshape(slice(this.codes, [(first * this.columns) / 2], [numbers / 2]), [blocks, BLOCK / 2]);
      const scales = reshape(slice(this.scales, [(first * this.columns) / BLOCK], [blocks]), [blocks, 1]);
      // In float32, which is exact: a GPU has no arithmetic of int32.
      const places = multiply(cast(scales, 'float32'), constant(BYTES));
      const indices = cast(add(cast(bytes, 'float32'), places), 'int32');
      return reshape(gather(tensorOf(pairsOfBytes(), [BYTES * BYTES, 2]), indices), [count, this.columns]);
    });
  }

  dispose(): void {
    dispose(this.inputs);
  }
}
