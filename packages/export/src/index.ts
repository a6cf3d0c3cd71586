export { maxGgufBytes } from './gguf/gguf-bytes.js';
export type { GgufType } from './gguf/gguf-layout.js';
export { type WriteGgufAdapterOptions, writeGgufAdapter } from './gguf/write-gguf-adapter.js';
export { type WriteGgufModelOptions, writeGgufModel } from './gguf/write-gguf-model.js';
export { type MergeOptions, mergeModel, type WeightFileDigest } from './merging/merge-model.js';
export { mergedEntry } from './merging/merged-source.js';
export { mergedLayout } from './merging/plan-merge.js';
export { type ModelfileOptions, modelfile } from './modelfile/modelfile.js';
