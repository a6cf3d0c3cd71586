import type { Readable } from 'node:stream';
import type { Digest } from './digest-stream.js';

/** A file of a bundle. */
export interface BundleFile {
  name: string;
  bytes: number;
  mtime: Date;
}

/** A folder being filled. Nobody else sees it before it is published. */
export interface Staging {
  /** A local folder: put the bundle's files into it, no folders. */
  readonly path: string;
  /**
   * Streams into a new file of the folder.
   * @throws ProductError `storage_full`; whatever the source throws
   */
  write(name: string, source: Iterable<Uint8Array> | AsyncIterable<Uint8Array>): Promise<Digest>;
  /** Removes the folder; harmless when it is published or gone. */
  discard(): Promise<void>;
}

/** Bytes `start` to `end`, both inclusive, from 0; as in HTTP. */
export interface ByteRange {
  start: number;
  end: number;
}

/** A bundle as a local folder, which stays until it is released. */
export interface HeldBundle {
  /** Its last part is the id of the bundle. */
  readonly folder: string;
  /** Path of a file. @throws ProductError `not_found` for what cannot be a name */
  path(name: string): string;
  /** Lets the folder go; more than once is harmless. */
  release(): void;
}

/**
 * Immutable folders ("bundles") of one kind, each under an id. A bundle is there whole or not at all, and its bytes
 * never change; it can only be deleted. Safe with several processes on the same store. Where the store is on other hosts,
 * every call may throw ProductError `storage_unavailable`.
 *
 * An id or a name that could not be one (a path, `..`, a leading dot) is answered like one that does not exist.
 */
export interface BundleStore {
  /** A new empty folder on this host. */
  stage(): Promise<Staging>;
  /**
   * Makes the staged folder the bundle `id`, in one step after everything is stored: a rename in a local folder, one
   * conditional put in S3.
   * @returns false when `id` is there already: then nothing changed, and the staging is still the caller's to discard
   * @throws ProductError `storage_full`, `storage_unavailable`
   */
  publish(staging: Staging, id: string): Promise<boolean>;
  has(id: string): Promise<boolean>;
  /** Every id, or those that begin with `prefix`, sorted. */
  list(prefix?: string): Promise<string[]>;
  /** Sorted by name. @throws ProductError `not_found` */
  files(id: string): Promise<BundleFile[]>;
  /** @throws ProductError `not_found` */
  stat(id: string, name: string): Promise<BundleFile>;
  /**
   * The bundle as a local folder, fetched if need be, for what reads files by name or maps them. Release it when done.
   * @throws ProductError `not_found`; `storage_full` when there is no room to fetch it; `storage_unavailable`
   */
  hold(id: string): Promise<HeldBundle>;
  /** The file is open once the promise resolves, so it is read whole even when the bundle is deleted meanwhile. @throws ProductError `not_found` */
  read(id: string, name: string, range?: ByteRange): Promise<Readable>;
  /** @throws ProductError `not_found`; `internal_error` when it is larger than 16 MiB or not JSON */
  readJson(id: string, name: string): Promise<unknown>;
  /** Gone for readers at once, then removed. @returns false when it was not there */
  delete(id: string): Promise<boolean>;
  /**
   * Removes what crashed processes left half-made: staged folders in which nothing was written for `olderThanMs`.
   * @returns how many
   */
  sweepStaging(olderThanMs: number): Promise<number>;
  /**
   * Removes what publishers and deleters that died left in a store that several hosts share; 0 where there can be none.
   * One process now and then is enough.
   * @returns how many
   */
  sweepOrphans(olderThanMs: number): Promise<number>;
}

/** A {@link BundleStore} in a folder of this host. */
export interface LocalBundleStore extends BundleStore {
  /** Local path of the bundle, for what reads files by name. @throws ProductError `not_found` for what cannot be an id */
  folder(id: string): string;
  /** Local path of a file, to map or stream. @throws ProductError `not_found` for what cannot be an id or a name */
  path(id: string, name: string): string;
}
