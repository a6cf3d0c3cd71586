export { type GgufFile, openGguf } from './gguf-file.js';
export type { GgufValue } from './gguf-header.js';
