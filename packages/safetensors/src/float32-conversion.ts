import { bfloat16ToFloat32, float32ToBfloat16 } from './bfloat16.js';
import type { Dtype, FloatDtype } from './dtype.js';
import { viewAsFloat32 } from './element-view.js';
import { float16ToFloat32, float32ToFloat16 } from './float16.js';
import { SafetensorsError } from './safetensors-error.js';

/**
 * A tensor's bytes as float32; exact. Of F32 the result shares the memory of `bytes` where they are aligned.
 *
 * @throws SafetensorsError dtype_not_supported for anything but F32, F16 and BF16
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
      throw new SafetensorsError('dtype_not_supported', `${dtype} is not read as float32`);
  }
}

/** float32 rounded once to a dtype; of F32 the result shares the memory of `values`. */
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
