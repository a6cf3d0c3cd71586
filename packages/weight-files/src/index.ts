export type { FilePart } from './addon.js';
export {
  NF4_VALUES,
  type QuantizedScales,
  quantizeScales,
  SCALE_VALUES,
  UNSIGNED_VALUES,
} from './quantize-scales.js';
export {
  type BlockScales,
  createRegion,
  type FileRange,
  giveAway,
  type Region,
  readRanges,
  Sha256,
} from './read-ranges.js';
export {
  bfloat16ToFloat32,
  DTYPE_BITS,
  type Dtype,
  type FloatDtype,
  float16ToFloat32,
  float32ToBfloat16,
  float32ToFloat16,
  fromFloat32,
  isDtype,
  isFloatDtype,
  SafetensorsError,
  type SafetensorsErrorCode,
  tensorBytes,
  toFloat32,
} from './safetensors/dtype.js';
export {
  MAX_HEADER_BYTES,
  type SafetensorsHeader,
  safetensorsHeader,
  type TensorDescription,
  type TensorEntry,
} from './safetensors/header.js';
export {
  type OpenOptions,
  openSafetensors,
  type SafetensorsFile,
  type TensorToWrite,
  writeSafetensors,
} from './safetensors/safetensors-file.js';
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
