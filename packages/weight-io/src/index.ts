export { allocate } from './allocate.js';
export { hashFile } from './hash-file.js';
export {
  mergeInstructions,
  TensorFault,
  type TensorSource,
  type WeightUpdate,
  type WriteMergedOptions,
  writeMerged,
} from './write-merged.js';
