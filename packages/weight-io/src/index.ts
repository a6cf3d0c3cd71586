export { allocate } from './allocate.js';
export { hashFile } from './hash-file.js';
