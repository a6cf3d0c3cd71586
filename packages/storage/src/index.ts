export * from './bundle-cache.js';
export * from './bundle-store.js';
export * from './digest-stream.js';
export * from './local-bundle-store.js';
export * from './open-stores.js';
export type { S3BundleStore } from './s3/s3-bundle-store.js';
export type { S3Settings } from './s3/s3-objects.js';
export * from './storage-error.js';
export * from './write-file-atomic.js';
