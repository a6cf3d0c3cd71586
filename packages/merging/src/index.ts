export { type MergeOptions, mergeModel, type WeightFileDigest } from './merge-model.js';
