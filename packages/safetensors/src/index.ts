export { DTYPE_BITS, type Dtype, type FloatDtype, isDtype, isFloatDtype, tensorBytes } from './dtype.js';
export { fromFloat32, toFloat32 } from './float32-conversion.js';
export {
  bfloat16ToFloat32,
  float16ToFloat32,
  float32ToBfloat16,
  float32ToFloat16,
} from './half-precision.js';
export { MAX_HEADER_BYTES, type TensorEntry } from './header.js';
export { SafetensorsError, type SafetensorsErrorCode } from './safetensors-error.js';
export { type OpenOptions, openSafetensors, type SafetensorsFile } from './safetensors-file.js';
export { type SafetensorsHeader, safetensorsHeader, type TensorDescription } from './safetensors-header.js';
export { type TensorToWrite, writeSafetensors } from './write-safetensors.js';
