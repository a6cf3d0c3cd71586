import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { mapWithConcurrency } from '@lorasmith/concurrency';
import { ProductError } from '@lorasmith/contracts';
import { type Annotations, type NamedTexts, openAnnotations } from '../annotations.js';
import type { BundleCache } from '../bundle-cache.js';
import type { BundleEntry, Listing } from '../bundle-entry.js';
import { BundleIndex, type EntryNames } from '../bundle-index.js';
import {
  type BundleFile,
  type BundleLease,
  type BundleStore,
  type ByteRange,
  bundleNotFound,
  checkBundleFileName,
  checkBundleId,
  isBundleId,
  type LocalFile,
  type Staging,
  type TemporaryUrlOptions,
} from '../bundle-store.js';
import { totalBytes } from '../digest-stream.js';
import { checkJsonSize, isAbsent, MAX_JSON_BYTES } from '../local-files.js';
import { fileNames, type LocalStagings, openLocalStagings } from '../local-staging.js';
import {
  type BundleKeys,
  type BundleRecord,
  bundleKeys,
  downloadFiles,
  FILES_AT_ONCE,
  readBundleRecord,
  uploadFiles,
} from './bundle-objects.js';
import { KEYS_PER_REQUEST, listKeys, listParts, type S3Objects } from './s3-objects.js';

export interface S3BundleStoreOptions {
  objects: S3Objects;
  /** Copies on this host. */
  cache: BundleCache;
  /** The data folder of this host, where bundles are staged. */
  root: string;
  /** Kind of the bundles, in the plural. */
  kind: string;
  /**
   * Age at which an upload without a record counts as abandoned. A publisher that takes longer than half of it gives up, so
   * that its files are not removed under a new bundle.
   * @defaultValue a day
   */
  orphanAgeMs?: number;
}

const DAY_MS = 24 * 3_600_000;

/** A {@link BundleStore} in S3. */
export interface S3BundleStore extends BundleStore {
  /** Publishes like `publish`, but leaves the files where they are. */
  publishFrom(folder: string, names: readonly string[], id: string): Promise<boolean>;
  /** The record of the bundle. @throws ProductError `not_found` */
  record(id: string): Promise<BundleRecord>;
}

/** Opens a {@link S3BundleStore}, and removes leftovers of crashed processes from this host. */
export async function openS3BundleStore(options: S3BundleStoreOptions): Promise<S3BundleStore> {
  const { objects, cache, root, kind, orphanAgeMs = DAY_MS } = options;
  const stagings = await openLocalStagings({ root, kind });
  await stagings.sweep(orphanAgeMs);
  return new ObjectStore({ objects, cache, kind, stagings, orphanAgeMs });
}

interface ObjectStoreParts extends Omit<S3BundleStoreOptions, 'root'> {
  stagings: LocalStagings;
  orphanAgeMs: number;
}

/**
 * Publishing uploads the files first, under a name that nothing refers to. Then one conditional put of the record makes the
 * complete bundle visible. Its entry in the index is there before the record. Deleting removes the record first, and the entry last.
 */
class ObjectStore implements S3BundleStore {
  readonly annotations: Annotations;
  readonly #kind: string;
  readonly #objects: S3Objects;
  readonly #cache: BundleCache;
  readonly #stagings: LocalStagings;
  readonly #orphanAgeMs: number;
  readonly #keys: BundleKeys;
  readonly #index: BundleIndex;

  constructor({ objects, cache, kind, stagings, orphanAgeMs }: ObjectStoreParts) {
    this.#kind = kind;
    this.#objects = objects;
    this.#cache = cache;
    this.#stagings = stagings;
    this.#orphanAgeMs = orphanAgeMs;
    this.#keys = bundleKeys(kind);
    this.#index = new BundleIndex(s3EntryNames(objects, this.#keys.index));
    this.annotations = openS3Annotations(objects, kind);
  }

  async has(id: string): Promise<boolean> {
    return isBundleId(id) && (await this.#objects.has(this.#keys.record(id)));
  }

  async list(prefix = ''): Promise<string[]> {
    const { records, record } = this.#keys;
    const ids: string[] = [];
    for (const key of await listKeys(this.#objects, records + prefix)) {
      const id = key.slice(records.length).replace(/\.json$/, '');
      if (isBundleId(id) && record(id) === key) ids.push(id);
    }
    return ids.sort();
  }

  newest(options: Parameters<BundleStore['newest']>[0]): Promise<BundleEntry[]> {
    return this.#index.newest(options);
  }

  entries(owner?: string | null): Promise<BundleEntry[]> {
    return this.#index.entries(owner);
  }

  async repairIndex(listingOf: (id: string) => Promise<Listing | null>, olderThanMs: number): Promise<number> {
    const repaired = await this.#index.repair(this, listingOf, Math.max(olderThanMs, this.#orphanAgeMs));
    return repaired + (await this.annotations.sweep((id) => this.has(id)));
  }

  stage(): Promise<Staging> {
    return this.#stagings.stage();
  }

  sweepStaging(olderThanMs: number): Promise<number> {
    return this.#stagings.sweep(olderThanMs);
  }

  sweepOrphans(olderThanMs: number): Promise<number> {
    return sweepS3Orphans(this.#objects, this.#keys, Math.max(olderThanMs, this.#orphanAgeMs));
  }

  async record(id: string): Promise<BundleRecord> {
    checkBundleId(this.#kind, id);
    const found = await readBundleRecord(this.#objects, this.#keys.record(id));
    if (found === null) throw bundleNotFound(this.#kind, `bundle ${id}`);
    return found;
  }

  async publish(staging: Staging, id: string, listing?: Listing): Promise<boolean> {
    checkBundleId(this.#kind, id);
    const made = await this.#store(staging.path, await fileNames(staging.path), id, listing);
    if (made === null) return false;
    // The copy only saves a later download. The bundle exists without it.
    await this.#cache.adopt(this.#copyOf(made), staging).catch(() => {});
    return true;
  }

  async publishFrom(folder: string, names: readonly string[], id: string): Promise<boolean> {
    checkBundleId(this.#kind, id);
    for (const name of names) checkBundleFileName(this.#kind, id, name);
    return (await this.#store(folder, names, id)) !== null;
  }

  async lease(id: string): Promise<BundleLease> {
    const found = await this.record(id);
    return await this.#cache.lease({
      ...this.#copyOf(found),
      fetch: (staging) => downloadFiles(this.#objects, this.#keys, found, staging),
    });
  }

  async files(id: string): Promise<BundleFile[]> {
    const { created_at, files } = await this.record(id);
    const mtime = new Date(created_at);
    return files.map(({ name, bytes }) => ({ name, bytes, mtime })).sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  async stat(id: string, name: string): Promise<BundleFile> {
    const { record, bytes } = await this.#fileOf(id, name);
    return { name, bytes, mtime: new Date(record.created_at) };
  }

  async read(id: string, name: string, range?: ByteRange): Promise<Readable> {
    const { record, key, bytes } = await this.#fileOf(id, name);
    const copy = await this.#cache.peek(this.#copyOf(record).key, id);
    if (copy !== null) {
      try {
        const handle = await open(path.join(copy, name), constants.O_RDONLY | constants.O_NOFOLLOW);
        return handle.createReadStream({ ...range, highWaterMark: 256 * 1024 });
      } catch (error) {
        if (!isAbsent(error)) throw error;
      }
    }
    if (bytes === 0) return Readable.from([]);
    const body = await this.#objects.read(key, range);
    if (body === null) throw bundleNotFound(this.#kind, `file ${name} of ${id}`);
    return body;
  }

  async localFile(id: string, name: string): Promise<LocalFile | null> {
    const { record, bytes } = await this.#fileOf(id, name);
    const copy = await this.#cache.peek(this.#copyOf(record).key, id);
    return copy === null ? null : { path: path.join(copy, name), bytes };
  }

  async temporaryUrl(id: string, name: string, temporary: TemporaryUrlOptions): Promise<string | null> {
    const { key } = await this.#fileOf(id, name);
    return await this.#objects.temporaryUrl(key, temporary);
  }

  async readJson(id: string, name: string): Promise<unknown> {
    const { key, bytes } = await this.#fileOf(id, name);
    try {
      checkJsonSize(bytes);
      const content = await this.#objects.readWhole(key, MAX_JSON_BYTES);
      if (content === null) throw new Error('it is missing');
      return JSON.parse(content.toString('utf8'));
    } catch (cause) {
      if (cause instanceof ProductError) throw cause;
      const message = `The file ${name} of ${id} in ${this.#kind} cannot be read (${(cause as Error).message}).`;
      throw new ProductError('internal_error', message, { cause });
    }
  }

  async delete(id: string): Promise<boolean> {
    if (!isBundleId(id)) return false;
    const key = this.#keys.record(id);
    const found = await readBundleRecord(this.#objects, key);
    if (found === null) return false;
    // Those of this bundle, and none of another that is published under its id once it is gone.
    const entries = await this.#entriesOf(found);
    await this.#objects.remove(key);
    await this.#removeFiles(found);
    for (const entry of entries) await this.#index.remove(entry);
    await this.annotations.remove(id);
    await this.#cache.remove(this.#copyOf(found).key);
    return true;
  }

  /** @returns null when another publisher was faster */
  async #store(folder: string, names: readonly string[], id: string, listing?: Listing): Promise<BundleRecord | null> {
    const key = this.#keys.record(id);
    if (await this.#objects.has(key)) return null;
    const beginMs = Date.now();
    const upload = `${beginMs.toString(36)}${randomBytes(8).toString('hex')}`;
    const files = await uploadFiles(this.#objects, this.#keys, { folder, names, id, upload });
    if (Date.now() - beginMs > this.#orphanAgeMs / 2) {
      throw new ProductError('storage_unavailable', `Storing ${id} took too long. Try again.`);
    }
    const entry = listing && { entry: await this.#index.add(id, listing) };
    const made: BundleRecord = { version: 1, id, upload, created_at: new Date().toISOString(), files, ...entry };
    if ((await this.#objects.create(key, JSON.stringify(made))) === 'created') return made;
    // It may be our own: an attempt whose answer was lost.
    const there = await readBundleRecord(this.#objects, key);
    if (there?.upload === upload) return made;
    await this.#removeFiles(made);
    if (made.entry !== undefined) await this.#index.remove(made.entry);
    return null;
  }

  async #fileOf(id: string, name: string): Promise<{ record: BundleRecord; key: string; bytes: number }> {
    checkBundleFileName(this.#kind, id, name);
    const record = await this.record(id);
    const file = record.files.find((candidate) => candidate.name === name);
    if (file === undefined) throw bundleNotFound(this.#kind, `file ${name} of ${id}`);
    return { record, key: this.#keys.file(id, record.upload, name), bytes: file.bytes };
  }

  /** The name of the copy of these files in the cache. */
  #copyOf({ id, upload, files }: BundleRecord) {
    return { key: `${this.#kind}-${upload}`, id, bytes: totalBytes(files) };
  }

  async #removeFiles({ id, upload, files }: BundleRecord): Promise<void> {
    await mapWithConcurrency(files, FILES_AT_ONCE, ({ name }) =>
      this.#objects.remove(this.#keys.file(id, upload, name)),
    );
  }

  /** The names of its entries. Its record says which, unless a repair has added it: then they are looked for among all. */
  async #entriesOf({ id, entry }: BundleRecord): Promise<string[]> {
    return entry !== undefined && (await this.#index.has(entry)) ? [entry] : await this.#index.namesOf(id);
  }
}

/** Parts of a long list that are listed at the same time. */
const PARTS = 16;

/** Names as empty objects under a prefix. A page of them is one request. */
export function s3EntryNames(
  objects: Pick<S3Objects, 'create' | 'has' | 'remove' | 'list'>,
  prefix: string,
): EntryNames {
  const under = (folder: string) => `${prefix}${folder}/`;
  /** Keys at which the last long list of a folder was divided: the next one has nearly the same keys. */
  const divisions = new Map<string, string[]>();
  return {
    async add(folder, name) {
      await objects.create(under(folder) + name, '');
    },

    has: (folder, name) => objects.has(under(folder) + name),

    remove: (folder, name) => objects.remove(under(folder) + name),

    async page(folder, { after, limit }) {
      const names: string[] = [];
      const start = after === undefined ? undefined : under(folder) + after;
      for await (const { key } of objects.list(under(folder), { after: start, pageSize: limit })) {
        names.push(key.slice(under(folder).length));
        if (names.length === limit) break;
      }
      return names;
    },

    async list(folder) {
      const keys = await listParts(objects, under(folder), divisions.get(folder) ?? []);
      const each = Math.ceil(keys.length / PARTS);
      if (keys.length <= KEYS_PER_REQUEST) divisions.delete(folder);
      else
        divisions.set(
          folder,
          Array.from({ length: PARTS - 1 }, (_, part) => keys[(part + 1) * each]!),
        );
      return keys.map((key) => key.slice(under(folder).length));
    },

    async listAll() {
      const folders = new Map<string, string[]>();
      for (const key of await listParts(objects, prefix, [])) {
        const [folder = '', name = ''] = key.slice(prefix.length).split('/');
        const names = folders.get(folder);
        if (names === undefined) folders.set(folder, [name]);
        else names.push(name);
      }
      return folders;
    },
  };
}

/** Opens the annotations of a kind of bundles, or of things that have no bundle. */
export function openS3Annotations(objects: S3Objects, kind: string): Annotations {
  return openAnnotations(s3NamedTexts(objects, bundleKeys(kind).annotations));
}

/** Texts as objects under a prefix. */
function s3NamedTexts(
  objects: Pick<S3Objects, 'create' | 'readWhole' | 'remove' | 'list'>,
  prefix: string,
): NamedTexts {
  return {
    create: async (name, text) => (await objects.create(prefix + name, text)) === 'created',

    async read(name) {
      return (await objects.readWhole(prefix + name, MAX_JSON_BYTES))?.toString('utf8') ?? null;
    },

    remove: (name) => objects.remove(prefix + name),

    async list(start) {
      const names: string[] = [];
      for await (const { key } of objects.list(prefix + start)) names.push(key.slice(prefix.length));
      return names;
    },
  };
}

interface StoredUpload {
  keys: string[];
  newestMs: number;
}

/**
 * Removes the files of uploads that no record refers to and that nothing was added to for `olderThanMs`, and aborts
 * incomplete uploads.
 *
 * Records are read only if necessary: when there is none, and when a bundle has two uploads.
 * @returns the number of removed uploads
 */
async function sweepS3Orphans(objects: S3Objects, keys: BundleKeys, olderThanMs: number): Promise<number> {
  const before = Date.now() - olderThanMs;
  let removed = await objects.abortUploads(keys.files, new Date(before));
  for await (const [id, uploads] of uploadsById(objects, keys)) {
    if ([...uploads.values()].every(({ newestMs }) => newestMs > before)) continue;
    // The only upload of an existing bundle is its own.
    if (uploads.size === 1 && (await objects.has(keys.record(id)))) continue;
    const current = (await readBundleRecord(objects, keys.record(id)))?.upload;
    for (const [upload, { keys: objectKeys, newestMs }] of uploads) {
      if (upload === current || newestMs > before) continue;
      for (const key of objectKeys) await objects.remove(key);
      removed++;
    }
  }
  return removed;
}

/** The stored uploads of one bundle after the other, in the order of the keys. */
async function* uploadsById(
  objects: S3Objects,
  keys: BundleKeys,
): AsyncGenerator<[id: string, uploads: Map<string, StoredUpload>]> {
  let current: string | undefined;
  let uploads = new Map<string, StoredUpload>();
  for await (const { key, modified } of objects.list(keys.files)) {
    const [id, upload] = key.slice(keys.files.length).split('/');
    if (id === undefined || upload === undefined) continue;
    if (id !== current && current !== undefined) {
      yield [current, uploads];
      uploads = new Map();
    }
    current = id;
    const stored = uploads.get(upload) ?? { keys: [], newestMs: 0 };
    uploads.set(upload, stored);
    stored.keys.push(key);
    stored.newestMs = Math.max(stored.newestMs, modified.getTime());
  }
  if (current !== undefined) yield [current, uploads];
}
