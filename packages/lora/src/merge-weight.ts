import { ProductError } from '@lorasmith/contracts';
import type { PeftModule } from '@lorasmith/peft-files';
import { type FloatDtype, fromFloat32, toFloat32 } from '@lorasmith/safetensors';
import { add, dispose, matMul, multiply, scope, tensorOf, toFloat32Array } from '@lorasmith/tensor';

/** Size of a slice of rows in float32. Merging slice by slice needs little memory besides the weight itself. */
const SLICE_BYTES = 32 * 2 ** 20;

/** If all these bits are set, a number is infinite or NaN. */
const EXPONENT_BITS = { F32: 0x7f80_0000, F16: 0x7c00, BF16: 0x7f80 } as const;

/** A weight in a safetensors file. */
export interface StoredWeight {
  name: string;
  /** Whether it is stored as `[inFeatures, outFeatures]`, as in GPT-2, instead of `[outFeatures, inFeatures]`. */
  transposed: boolean;
  dtype: FloatDtype;
  shape: readonly number[];
  /** Little-endian, row-major. */
  bytes: Uint8Array;
}

/**
 * Replaces a weight by `W + scale · B A`, in place and in its layout. It computes in float32 and rounds once to the dtype.
 *
 * @throws ProductError invalid_adapter when the shapes do not match; merge_not_finite when a number is NaN or infinite in the
 * dtype. The bytes are then only partly merged: discard them.
 */
export function mergeWeight(weight: StoredWeight, module: PeftModule): void {
  const { name, transposed, dtype, shape, bytes } = weight;
  const { a, b, rank, scale, inFeatures, outFeatures } = module;
  const [height, width] = transposed ? [inFeatures, outFeatures] : [outFeatures, inFeatures];
  if (shape.length !== 2 || shape[0] !== height || shape[1] !== width) {
    const message = `The adapter is for a layer of [${height}, ${width}], but ${name} of the base model is [${shape.join(', ')}].`;
    throw new ProductError('invalid_adapter', message);
  }
  const rowBytes = bytes.byteLength / height;
  const sliceRows = Math.max(1, Math.floor(SLICE_BYTES / (4 * width)));
  // (B A)ᵀ is Aᵀ Bᵀ.
  const left = transposed ? transpose(a, rank, inFeatures) : b; // [height, rank]
  const right = transposed ? tensorOf(b, [outFeatures, rank]) : tensorOf(a, [rank, inFeatures]);
  const scaleTensor = tensorOf(Float32Array.of(scale), []);
  try {
    for (let row = 0; row < height; row += sliceRows) {
      const rows = Math.min(sliceRows, height - row);
      const slice = bytes.subarray(row * rowBytes, (row + rows) * rowBytes);
      const merged = scope(() => {
        const base = tensorOf(toFloat32(slice, dtype), [rows, width]);
        const leftRows = tensorOf(left.slice(row * rank, (row + rows) * rank), [rows, rank]);
        const update = multiply(matMul(leftRows, right, { transposeB: transposed }), scaleTensor); // [rows, width]
        return toFloat32Array(add(base, update));
      });
      const rounded = fromFloat32(merged, dtype);
      if (!allFinite(rounded, dtype)) {
        const message = `Merging ${name} gives numbers that are not finite in ${dtype}; the adapter or the base model is damaged, or its scale too large.`;
        throw new ProductError('merge_not_finite', message);
      }
      slice.set(rounded);
    }
  } finally {
    dispose([right, scaleTensor]);
  }
}

/** `[rows, columns]` → `[columns, rows]` */
function transpose(matrix: Float32Array, rows: number, columns: number): Float32Array {
  const result = new Float32Array(matrix.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) result[column * rows + row] = matrix[row * columns + column]!;
  }
  return result;
}

function allFinite(bytes: Uint8Array, dtype: FloatDtype): boolean {
  const { buffer, byteOffset, byteLength } = bytes;
  const words =
    dtype === 'F32'
      ? new Uint32Array(buffer, byteOffset, byteLength / 4)
      : new Uint16Array(buffer, byteOffset, byteLength / 2);
  const exponent = EXPONENT_BITS[dtype];
  for (const bits of words) if ((bits & exponent) === exponent) return false;
  return true;
}
