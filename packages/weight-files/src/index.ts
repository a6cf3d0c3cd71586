export type { FilePart } from './addon.js';
export {
  NF4_VALUES,
  type QuantizedScales,
  quantizeScales,
  SCALE_VALUES,
  UNSIGNED_VALUES,
} from './quantize-scales.js';
export { type BlockScales, type FilePiece, readPieces, Sha256 } from './read-pieces.js';
export { createRegion, giveAway, type Region } from './region.js';
export { DTYPE_BITS, type Dtype, type FloatDtype, isDtype, isFloatDtype, tensorBytes } from './safetensors/dtype.js';
export { fromFloat32, toFloat32 } from './safetensors/float32-conversion.js';
export {
  bfloat16ToFloat32,
  float16ToFloat32,
  float32ToBfloat16,
  float32ToFloat16,
} from './safetensors/half-precision.js';
export { MAX_HEADER_BYTES, type TensorEntry } from './safetensors/header.js';
export { SafetensorsError, type SafetensorsErrorCode } from './safetensors/safetensors-error.js';
export { type OpenOptions, openSafetensors, type SafetensorsFile } from './safetensors/safetensors-file.js';
export { type SafetensorsHeader, safetensorsHeader, type TensorDescription } from './safetensors/safetensors-header.js';
export { type TensorToWrite, writeSafetensors } from './safetensors/write-safetensors.js';
export {
  type IndexRange,
  mergeInstructions,
  type QuantizedHere,
  type QuantizedStorage,
  type ScaledBlocks,
  type StoredTensor,
  type TensorConversion,
  TensorFault,
  type TensorInMemory,
  type TensorSource,
  type WeightUpdate,
  type WriteMergedOptions,
  writeMerged,
  writtenBytes,
} from './write-merged.js';
