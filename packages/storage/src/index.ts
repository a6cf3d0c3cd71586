export * from './bundle-store.js';
export * from './digest-stream.js';
export * from './local-bundle-store.js';
export * from './storage-error.js';
export * from './write-file-atomic.js';
