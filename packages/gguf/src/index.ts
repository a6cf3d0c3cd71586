export { type ImportRequest, importGguf } from './import-gguf.js';
