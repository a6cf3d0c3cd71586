export type { FilePart } from './addon.js';
export { type FilePiece, readPieces, Sha256 } from './read-pieces.js';
export { createRegion, giveAway, type Region } from './region.js';
export {
  mergeInstructions,
  type QuantizedStorage,
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
