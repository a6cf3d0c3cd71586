export { Classifier, type FeatureBatch } from './classifier/classifier.js';
export { loadClassifier } from './classifier/load-classifier.js';
export { Decoder } from './decoder/decoder.js';
export { type GenerateOptions, generateGreedily } from './decoder/generate.js';
export { loadDecoder } from './decoder/load-decoder.js';
export { FrozenProjection, type Projection, ProjectionSlot, type Saved } from './projection.js';
export { type TokenBatch, tokenBatchOf } from './token-batch.js';
export type { BatchLoss, TrainableModel } from './trainable-model.js';
export type { LoadOptions } from './weight-source.js';
