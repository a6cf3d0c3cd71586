import type { Dtype, FloatDtype } from './dtype.js';
import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from './half-precision.js';
import { SafetensorsError } from './safetensors-error.js';

/**
 * Converts a tensor's bytes to float32, exactly. For F32, the result shares the memory of `bytes` if they are aligned.
 *
 * @throws SafetensorsError dtype_not_supported for dtypes other than F32, F16 and BF16
 */
export function toFloat32(bytes: Uint8Array, dtype: Dtype): Float32Array {
  switch (dtype) {
    case 'F32':
      return viewAsFloat32(bytes);
    case 'F16':
      return float16ToFloat32(bytes);
    case 'BF16':
      return bfloat16ToFloat32(bytes);
    default:
      throw new SafetensorsError('dtype_not_supported', `${dtype} cannot be read as float32`);
  }
}

/** Converts float32 to a dtype, rounding once. For F32, the result shares the memory of `values`. */
export function fromFloat32(values: Float32Array, dtype: FloatDtype): Uint8Array {
  switch (dtype) {
    case 'F32':
      return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    case 'F16':
      return float32ToFloat16(values);
    case 'BF16':
      return float32ToBfloat16(values);
  }
}

/** Views bytes as float32. They are copied only if their offset is not aligned. */
export function viewAsFloat32(bytes: Uint8Array): Float32Array {
  if (bytes.byteLength % 4 !== 0) throw new RangeError(`${bytes.byteLength} bytes are not a whole number of float32`);
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : new Uint8Array(bytes);
  return new Float32Array(aligned.buffer, aligned.byteOffset, aligned.byteLength / 4);
}
