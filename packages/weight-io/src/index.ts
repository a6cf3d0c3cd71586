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
