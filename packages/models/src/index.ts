export { Classifier, type FeatureBatch } from './classifier/classifier.js';
export { batchAttention } from './decoder/attention.js';
export { Decoder, type TokenStream } from './decoder/decoder.js';
export { loadDecoder } from './decoder/load-decoder.js';
export { OutputHead, type OutputHeadSettings } from './decoder/output-head.js';
export { DenseLinear, type FrozenLinear, type GroupModule, type LinearGroup } from './frozen-linear.js';
export { cacheBytes } from './generation/cached-pass.js';
export { type GenerateOptions, Generation, type GenerationOptions, generateTexts } from './generation/generation.js';
export {
  type GenerationEvent,
  type GenerationHandle,
  type GenerationListener,
  NotFiniteError,
  type PromptRequest,
  type Sampling,
  type ScoredToken,
  type TokenConstraint,
} from './generation/request.js';
export { type LoadedBase, type LoadedModel, loadBaseModel, loadClassifier } from './load-base-model.js';
export type { LoadOptions } from './loading/listed.js';
export { LoraAdapter, type LoraOptions, type LoraTarget } from './lora/lora-adapter.js';
export {
  type ActingAdapter,
  ALL_LAYERS,
  adaptersWithin,
  type DropoutSeed,
  type GroupAdapter,
  isTrained,
  type LowRankAdapter,
  type ModelAdapter,
  type Pass,
  type Saved,
  type TokenRange,
} from './pass.js';
export {
  type JoinedBatch,
  joinTokenBatches,
  type LabelRange,
  type RowsAlike,
  rangesOf,
  type TokenBatch,
  type TokenRow,
  tokenBatchOf,
  tokensOfRows,
} from './token-batch.js';
