import { ProductError } from '@lorasmith/contracts';
import { type FloatDtype, fromFloat32, toFloat32 } from '@lorasmith/safetensors';
import { add, dispose, matMul, multiply, scope, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import type { PeftModule } from './peft-adapter.js';

/** Rows are merged in slices of about this much float32, so that memory holds the weight once and little besides. */
const SLICE_BYTES = 32 * 2 ** 20;

/** A number with these bits all set is infinite or not a number. */
const EXPONENT_BITS = { F32: 0x7f80_0000, F16: 0x7c00, BF16: 0x7f80 } as const;

/** A weight as it lies in a safetensors file, `[outFeatures, inFeatures]`. */
export interface StoredWeight {
  name: string;
  dtype: FloatDtype;
  shape: readonly number[];
  /** Little-endian, row-major. */
  bytes: Uint8Array;
}

/**
 * Replaces a weight by `W + scale · B A`, in place: each number is computed in float32 and rounded once to the dtype.
 *
 * @throws ProductError invalid_adapter when the shapes do not fit; merge_not_finite when a number is NaN or infinite
 * in that dtype (then the bytes are spoilt: discard them)
 */
export function mergeWeight(weight: StoredWeight, module: PeftModule): void {
  const { name, dtype, shape, bytes } = weight;
  const { a, b, rank, scale, inFeatures, outFeatures } = module;
  if (shape.length !== 2 || shape[0] !== outFeatures || shape[1] !== inFeatures) {
    const message = `The adapter is for a layer of [${outFeatures}, ${inFeatures}], but ${name} of the base model is [${shape.join(', ')}].`;
    throw new ProductError('invalid_adapter', message);
  }
  const rowBytes = bytes.byteLength / outFeatures;
  const sliceRows = Math.max(1, Math.floor(SLICE_BYTES / (4 * inFeatures)));
  const aTensor = tensorOf(a, [rank, inFeatures]);
  const scaleTensor = tensorOf(Float32Array.of(scale), []);
  try {
    for (let row = 0; row < outFeatures; row += sliceRows) {
      const rows = Math.min(sliceRows, outFeatures - row);
      const slice = bytes.subarray(row * rowBytes, (row + rows) * rowBytes);
      const merged = scope(() => {
        const base = tensorOf(toFloat32(slice, dtype), [rows, inFeatures]);
        const bRows = tensorOf(b.slice(row * rank, (row + rows) * rank), [rows, rank]);
        const update = multiply(matMul(bRows, aTensor), scaleTensor); // [rows, inFeatures]
        return toFloat32Array(add(base, update));
      });
      const rounded = fromFloat32(merged, dtype);
      if (!allFinite(rounded, dtype)) {
        const message = `Merging ${name} gives numbers that are not finite in ${dtype}; the adapter or the base model is broken, or its scale too large.`;
        throw new ProductError('merge_not_finite', message);
      }
      slice.set(rounded);
    }
  } finally {
    dispose([aTensor, scaleTensor]);
  }
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
