export type { GgufType } from './gguf/gguf-file.js';
export { type WriteGgufAdapterOptions, writeGgufAdapter } from './gguf/write-gguf-adapter.js';
export { maxGgufBytes, type WriteGgufModelOptions, writeGgufModel } from './gguf/write-gguf-model.js';
export { type MergeOptions, mergeModel, type WeightFileDigest } from './merging/merge-model.js';
export { mergedEntry, mergedLayout } from './merging/plan-merge.js';
export { type ModelfileOptions, modelfile } from './modelfile.js';
