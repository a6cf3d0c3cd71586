import type { FloatDtype, TensorEntry } from '@lorasmith/safetensors';
import type { StoredTensor } from '@lorasmith/weight-io';
import { FourBitWeight } from './four-bit.js';
import { inBfloat16, pieceOf, type TensorLocation } from './quantized-weight.js';

/** A weight of floats that is quantized when it is read, in NF4 with double quantization. No files have it so. */
export class MadeWeight extends FourBitWeight {
  readonly reader = 'made-4-bit';
  readonly type = 'nf4';
  readonly isNested = true;
  readonly parts = [];
  readonly shape: readonly [number, number];
  readonly matrices: number | null;

  /**
   * @param shape `[out, in]`
   * @param matrices how many of that shape the tensor has, one behind the other; null: one
   */
  constructor(shape: readonly [number, number], matrices: number | null = null) {
    super();
    this.shape = shape;
    this.matrices = matrices;
  }

  /** A tensor of fused experts has more axes than a matrix of it. */
  merged({ name, shape }: TensorEntry) {
    return inBfloat16(name, shape);
  }

  storedMatrices({ name, dtype }: TensorEntry, locate: TensorLocation): StoredTensor[] {
    // Reading the folder has checked that it is a float dtype.
    const numbers = dtype as FloatDtype;
    const all = { ...locate(name), quantized: { shape: this.shape, numbers } };
    const count = this.matrices ?? 1;
    return Array.from({ length: count }, (_, index) => pieceOf(all, index, count));
  }

  scaleSource(name: string) {
    return { tensor: name, fault: 'number that is not finite' };
  }
}
