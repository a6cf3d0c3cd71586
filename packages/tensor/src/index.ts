export * from './arithmetic.js';
export { type Engine, type EngineKind, engine } from './binding.js';
export * from './cuda.js';
export { type OpObserver, observeOps } from './execute.js';
export type { Activation } from './kernels/activation.js';
export {
  type AdamWState,
  type AdamWStep,
  type AdamWUpdate,
  bytesOfMoment,
  momentBytes,
  momentOfBytes,
  zeroMoment,
} from './kernels/adamw.js';
export {
  isAdaptedAlone,
  type LoraPadding,
  type PaddedWeight,
  padWeight,
  rowsWithoutPadding,
} from './kernels/adapted-product.js';
export type { AttentionSettings, BatchAttention, SavedAttention } from './kernels/attention.js';
export type { CrossEntropy } from './kernels/cross-entropy.js';
export { type InstructionSet, processorRuns } from './kernels/fused-library.js';
export {
  DELTA_CHUNK,
  type DeltaInputs,
  type DeltaOptions,
  type DeltaOutput,
  type DeltaSettings,
  type GatedDelta,
} from './kernels/gated-delta.js';
export { type RowSections, rowSections } from './kernels/grouped-product.js';
export { chooseKernels, HEAD_SIZES, type KernelOptions, KernelSet } from './kernels/kernel-table.js';
export type { Kernels } from './kernels/kernels.js';
export {
  type CachedText,
  type CacheShape,
  type CacheStep,
  cacheSizeBytes,
  type KeyValueCache,
  PAGE_TOKENS,
} from './kernels/key-value-cache.js';
export {
  type AdaptedRows,
  type LoraGradients,
  type LoraLayout,
  type LoraOutput,
  type LoraPart,
  type LoraWeights,
  parametersOf,
} from './kernels/lora.js';
export type { MergedWeight, MergeSettings } from './kernels/merged-weight.js';
export { Mxfp4Matrices } from './kernels/mxfp4.js';
export type { PackedMatrix, PackedRows } from './kernels/packed-matrix.js';
export { batchMatMul } from './kernels/product.js';
export { QuantizedMatrix, type QuantizedModule } from './kernels/quantized.js';
export type { Normed, StreamGradient } from './kernels/rms-norm.js';
export { type RotaryAngles, type RotaryTable, rotaryTable, rotate } from './kernels/rotary.js';
export type { ChosenToken, TokenChoice, TokenLogprob, TokenPenalties } from './kernels/sample-tokens.js';
export { ScaledMatrix } from './kernels/scaled.js';
export { MOST_SCORES } from './kernels/score-blocks.js';
export { type TokenRows, tokenRows } from './kernels/token-rows.js';
export * from './layout.js';
export * from './tensor.js';
export { alias, dispose, keep, liveTensorCount, scope, Tensor, type TensorTree } from './tensor.js';
export * from './transfer.js';
export * from './transfer.js';
