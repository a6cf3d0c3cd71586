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

/**
 * Immutable folders ("bundles") of one kind, each under an id. A bundle is there whole or not at all, and its bytes
 * never change; it can only be deleted. Safe with several processes on the same store.
 *
 * An id or a name that could not be one (a path, `..`, a leading dot) is answered like one that does not exist.
 */
export interface BundleStore {
  /** A new empty folder on the same file system. */
  stage(): Promise<Staging>;
  /**
   * Makes the staged folder the bundle `id`, by one rename after everything is on disk.
   * @returns false when `id` is there already: then nothing changed, and the staging is still the caller's to discard
   * @throws ProductError `storage_full`
   */
  publish(staging: Staging, id: string): Promise<boolean>;
  has(id: string): Promise<boolean>;
  /** Every id, sorted. */
  list(): Promise<string[]>;
  /** Sorted by name. @throws ProductError `not_found` */
  files(id: string): Promise<BundleFile[]>;
  /** @throws ProductError `not_found` */
  stat(id: string, name: string): Promise<BundleFile>;
  /** Local path of the bundle, for what reads files by name. @throws ProductError `not_found` for what cannot be an id */
  folder(id: string): string;
  /** Local path of a file, to map or stream. @throws ProductError `not_found` for what cannot be an id or a name */
  path(id: string, name: string): string;
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
}
