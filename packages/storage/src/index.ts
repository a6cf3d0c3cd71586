export type { Annotated, Annotations } from './annotations.js';
export * from './bundle-cache.js';
export type { BundleEntry, EntryPosition, Listing } from './bundle-entry.js';
export type {
  BundleFile,
  BundleLease,
  BundleStore,
  ByteRange,
  LocalBundleStore,
  LocalFile,
  Staging,
  TemporaryUrlOptions,
} from './bundle-store.js';
export * from './digest-stream.js';
export * from './listed-records.js';
export * from './local-bundle-store.js';
export * from './local-files.js';
export { syncTree } from './local-staging.js';
export * from './open-stores.js';
export type { BundleRecord } from './s3/bundle-objects.js';
export type { S3BundleStore } from './s3/s3-bundle-store.js';
export { openS3Objects, type S3Objects, type S3Settings } from './s3/s3-objects.js';
