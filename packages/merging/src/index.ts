export { adapterUpdates, type MergeOptions, mergeModel, type WeightFileDigest } from './merge-model.js';
export { type ModelfileOptions, modelfile } from './modelfile.js';
