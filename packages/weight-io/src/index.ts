export { type Piece, readPieces, Sha256 } from './read-pieces.js';
export { createRegion, giveAway, type Region } from './region.js';
export {
  mergeInstructions,
  TensorFault,
  type TensorSource,
  type WeightUpdate,
  type WriteMergedOptions,
  writeMerged,
} from './write-merged.js';
