import type { Readable } from 'node:stream';
import { ProductError } from '@lorasmith/contracts';
import type { Annotations } from './annotations.js';
import type { BundleEntry, EntryPosition, Listing } from './bundle-entry.js';
import type { Digest } from './digest-stream.js';

/** A file of a bundle. */
export interface BundleFile {
  name: string;
  bytes: number;
  mtime: Date;
}

/** A folder that is being filled. It is not visible before it is published. */
export interface Staging {
  /** A local folder for the bundle's files; folders are not allowed in it. */
  readonly path: string;
  /**
   * Streams into a new file of the folder.
   * @throws ProductError `storage_full`; errors of the source
   */
  write(name: string, source: Iterable<Uint8Array> | AsyncIterable<Uint8Array>): Promise<Digest>;
  /**
   * Moves a file of this host, which nothing writes to any more, into the folder.
   * @returns its digest, computed where it now is
   * @throws ProductError `storage_full`, where it must be copied from another file system
   */
  take(name: string, file: string): Promise<Digest>;
  /** Removes the folder; harmless when it has been published or removed. */
  discard(): Promise<void>;
}

/** Bytes `start` to `end`, both inclusive, from 0; as in HTTP. */
export interface ByteRange {
  start: number;
  end: number;
}

/** A file of a bundle on this host. */
export interface LocalFile {
  path: string;
  bytes: number;
}

/** Headers about the file in the answer to a temporary address. */
export interface TemporaryUrlOptions {
  /** The time in which a download may start there. */
  seconds: number;
  contentType: string;
  /** ASCII without quotes. */
  fileName: string;
}

/** A bundle as a local folder, which is not removed before it is released. */
export interface BundleLease {
  /** Its last part is the id of the bundle. */
  readonly folder: string;
  /** Path of a file. @throws ProductError `not_found` for an invalid name */
  path(name: string): string;
  /** Releases the folder; harmless when called again. */
  release(): void;
}

/**
 * Immutable folders ("bundles") of one kind, each with an id. A bundle appears complete or not at all, and its bytes never
 * change; it can only be deleted. Several processes may use the same store. If the store is on other hosts, every call may
 * throw ProductError `storage_unavailable`.
 *
 * An invalid id or name (a path, `..`, a leading dot) is treated like one that does not exist.
 */
export interface BundleStore {
  /** Values that users give to bundles, which may change. They end with their bundle. */
  readonly annotations: Annotations;
  /** A new empty folder on this host. */
  stage(): Promise<Staging>;
  /**
   * Publishes the staged folder as the bundle `id`, in one step after everything is stored: a rename in a local folder, a
   * conditional put in S3.
   * @param listing - Puts it into the index, for {@link newest} and {@link entries}. @defaultValue it is in {@link list} alone
   * @returns false when `id` exists already: nothing has changed, and the caller still has to discard the staging
   * @throws ProductError `storage_full`, `storage_unavailable`
   */
  publish(staging: Staging, id: string, listing?: Listing): Promise<boolean>;
  has(id: string): Promise<boolean>;
  /** All ids, or those that start with `prefix`, sorted. */
  list(prefix?: string): Promise<string[]>;
  /**
   * A page of the index, newest first: one request to a store on other hosts. Every listed bundle has its entry. An entry may have no bundle, and a
   * bundle a second entry with another time, if a process died while it published or deleted.
   * @param options.owner - Only those of this owner. @defaultValue all
   * @param options.after - Only those beyond this place.
   */
  newest(options: { owner?: string | null; after?: EntryPosition; limit: number }): Promise<BundleEntry[]>;
  /** The whole index, of an owner or of all, newest first. @see newest */
  entries(owner?: string | null): Promise<BundleEntry[]>;
  /**
   * Adds entries that bundles lack, as in a store that was copied without its index, and removes those without a bundle whose time is longer ago than
   * `olderThanMs`, and annotations without a bundle. One process that calls it from time to time is enough.
   * @param listingOf - Reads a bundle; null: it no longer exists, or cannot be read.
   * @returns the number of added and removed entries and annotations
   */
  repairIndex(listingOf: (id: string) => Promise<Listing | null>, olderThanMs: number): Promise<number>;
  /** Sorted by name. @throws ProductError `not_found` */
  files(id: string): Promise<BundleFile[]>;
  /** @throws ProductError `not_found` */
  stat(id: string, name: string): Promise<BundleFile>;
  /**
   * The bundle as a local folder, fetched if necessary, to read files by name or map them. Release it afterwards.
   * @throws ProductError `not_found`; `storage_full` when there is no space to fetch it; `storage_unavailable`
   */
  lease(id: string): Promise<BundleLease>;
  /** The file is open once the promise resolves, so it can be read completely even if the bundle is deleted meanwhile. @throws ProductError `not_found` */
  read(id: string, name: string, range?: ByteRange): Promise<Readable>;
  /**
   * The path of the file on this host, without opening it: it may be deleted at any time.
   * @returns null when it is only on other hosts
   * @throws ProductError `not_found`
   */
  localFile(id: string, name: string): Promise<LocalFile | null>;
  /**
   * An address at which everyone can download the file for a short time.
   * @returns null when the store is not on the network
   * @throws ProductError `not_found`
   */
  temporaryUrl(id: string, name: string, options: TemporaryUrlOptions): Promise<string | null>;
  /** @throws ProductError `not_found`; `internal_error` when it is larger than 16 MiB or not JSON */
  readJson(id: string, name: string): Promise<unknown>;
  /** Hides the bundle from readers at once, then removes it. @returns false when it did not exist */
  delete(id: string): Promise<boolean>;
  /**
   * Removes incomplete folders of crashed processes: staged folders without a write for `olderThanMs`.
   * @returns the number of removed folders
   */
  sweepStaging(olderThanMs: number): Promise<number>;
  /**
   * Removes the leftovers of crashed publishers and deleters in a store that several hosts share. One process that calls
   * it from time to time is enough. A local store has none, and returns 0.
   * @returns the number of removed uploads
   */
  sweepOrphans(olderThanMs: number): Promise<number>;
}

/** A {@link BundleStore} in a folder of this host. */
export interface LocalBundleStore extends BundleStore {
  /** Local path of the bundle, to read files by name. @throws ProductError `not_found` for an invalid id */
  folder(id: string): string;
  /** Local path of a file, to map or stream. @throws ProductError `not_found` for an invalid id or name */
  path(id: string, name: string): string;
}

const ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
const FILE_NAME = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,254}$/;

/** True for a valid id of a bundle, which is never a path. */
export function isBundleId(id: string): boolean {
  return ID.test(id);
}

/** True for a valid name of a file in a bundle, which is never a path and never hidden. */
export function isBundleFileName(name: string): boolean {
  return FILE_NAME.test(name);
}

/** @throws ProductError `not_found` for an invalid id */
export function checkBundleId(kind: string, id: string): void {
  if (!isBundleId(id)) throw bundleNotFound(kind, `bundle ${JSON.stringify(id.slice(0, 140))}`);
}

/** @throws ProductError `not_found` for an invalid name */
export function checkBundleFileName(kind: string, id: string, name: string): void {
  if (!isBundleFileName(name)) throw bundleNotFound(kind, `file ${JSON.stringify(name.slice(0, 260))} of ${id}`);
}

export function bundleNotFound(kind: string, what: string): ProductError {
  return new ProductError('not_found', `There is no ${what} in ${kind}.`);
}
