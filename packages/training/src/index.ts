export { BaseModelCache } from './base-model-cache.js';
export { type TrainOptions, type TrainOutcome, train } from './train.js';
