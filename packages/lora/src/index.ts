export { LoraAdapter, type LoraOptions, type LoraTarget } from './lora-adapter.js';
export { type MergeOptions, mergeModel } from './merge-model.js';
