export { engine, useFusedOps } from '@lorasmith/tensor';
export { BaseModelCache } from './base-model-cache.js';
export { measureMachine, memoryForTrainer } from './probe/measure-machine.js';
export { type TrainOptions, type TrainOutcome, train } from './train.js';
