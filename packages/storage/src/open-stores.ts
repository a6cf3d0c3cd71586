import { access, constants } from 'node:fs/promises';
import type { Annotations } from './annotations.js';
import { type BundleCache, openBundleCache } from './bundle-cache.js';
import type { BundleStore } from './bundle-store.js';
import { openBundleStore, openLocalAnnotations } from './local-bundle-store.js';
import { sweepStagings } from './local-staging.js';
import type { S3BundleStore } from './s3/s3-bundle-store.js';
import type { S3Settings } from './s3/s3-objects.js';

export interface StoreOptions {
  /** The data folder of this host: the store itself, or staged folders and copies. */
  dataDir: string;
  /** Null: the store is the data folder. */
  s3: (S3Settings & { cacheBytes: number }) | null;
}

/** The stores of all kinds of bundles. */
export interface Stores {
  /** True if other hosts see the same bundles. */
  readonly shared: boolean;
  open(kind: string): Promise<BundleStore>;
  /** Values of things that have no bundle. */
  openAnnotations(kind: string): Promise<Annotations>;
  /** The S3 store and its local copies; null for a local store. */
  readonly s3: { open(kind: string): Promise<S3BundleStore>; cache: BundleCache } | null;
  /**
   * Removes incomplete folders of crashed processes from this host, of every kind: those without a write for
   * `olderThanMs`.
   * @returns the number of removed folders
   */
  sweepStagings(olderThanMs: number): Promise<number>;
  /** Checks that the store answers. @throws ProductError `storage_unavailable` */
  check(): Promise<void>;
  close(): void;
}

export async function openStores({ dataDir, s3 }: StoreOptions): Promise<Stores> {
  const sweep = (olderThanMs: number) => sweepStagings(dataDir, olderThanMs);
  if (s3 === null) {
    const open = (kind: string) => openBundleStore({ root: dataDir, kind });
    const check = () => access(dataDir, constants.W_OK);
    const openAnnotations = (kind: string) => openLocalAnnotations({ root: dataDir, kind });
    return { shared: false, open, openAnnotations, s3: null, sweepStagings: sweep, check, close: () => {} };
  }
  // Loaded only when needed, because it is large.
  const { openS3Objects } = await import('./s3/s3-objects.js');
  const { openS3Annotations, openS3BundleStore } = await import('./s3/s3-bundle-store.js');
  const objects = openS3Objects(s3);
  const cache = await openBundleCache({ root: dataDir, maxBytes: s3.cacheBytes });
  const open = (kind: string) => openS3BundleStore({ objects, cache, root: dataDir, kind });
  const check = () => objects.check();
  const openAnnotations = async (kind: string) => openS3Annotations(objects, kind);
  const close = () => objects.close();
  return { shared: true, open, openAnnotations, s3: { open, cache }, sweepStagings: sweep, check, close };
}
