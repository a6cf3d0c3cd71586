export { configureKernels, engine } from '@lorasmith/tensor';
export { BaseModelCache } from './base-model-cache.js';
export { measureMachine } from './probe/measure-machine.js';
export { type PublishCheckpointOptions, publishCheckpoint } from './publish-checkpoint.js';
export type { StopReason } from './stop.js';
export { type TrainOptions, train } from './train.js';
