export { type GgufFile, openGguf } from './gguf-file.js';
export { maxGgufBytes } from './writing/gguf-bytes.js';
export { GGUF_TYPES, type GgufType } from './writing/gguf-layout.js';
export { type WriteGgufAdapterOptions, writeGgufAdapter } from './writing/write-gguf-adapter.js';
export { type WriteGgufModelOptions, writeGgufModel } from './writing/write-gguf-model.js';
