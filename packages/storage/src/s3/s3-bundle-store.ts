import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { mapWithConcurrency } from '@lorasmith/concurrency';
import { ProductError } from '@lorasmith/contracts';
import { openAnnotations } from '../annotations.js';
import type { BundleCache } from '../bundle-cache.js';
import type { Listing } from '../bundle-entry.js';
import { BundleIndex } from '../bundle-index.js';
import { bundleNotFound, checkBundleFileName, checkBundleId, isBundleId } from '../bundle-names.js';
import type { BundleStore } from '../bundle-store.js';
import { totalBytes } from '../digest-stream.js';
import { fileNames, openLocalStagings } from '../local-staging.js';
import { checkJsonSize, MAX_JSON_BYTES } from '../read-json.js';
import { isAbsent } from '../storage-error.js';
import { type BundleRecord, bundleKeys, readBundleRecord } from './bundle-record.js';
import { downloadFiles, FILES_AT_ONCE, uploadFiles } from './bundle-transfer.js';
import { listKeys } from './list-keys.js';
import { s3EntryNames } from './s3-entry-names.js';
import { s3NamedTexts } from './s3-named-texts.js';
import type { S3Objects } from './s3-objects.js';
import { sweepS3Orphans } from './sweep-s3-orphans.js';

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

/**
 * Publishing uploads the files first, under a name that nothing refers to. Then one conditional put of the record makes the
 * complete bundle visible. Its entry in the index is there before the record. Deleting removes the record first, and the entry last.
 */
export async function openS3BundleStore(options: S3BundleStoreOptions): Promise<S3BundleStore> {
  const { objects, cache, root, kind, orphanAgeMs = DAY_MS } = options;
  const keys = bundleKeys(kind);
  const stagings = await openLocalStagings({ root, kind });
  const index = new BundleIndex(s3EntryNames(objects, keys.index));
  const annotations = openAnnotations(s3NamedTexts(objects, keys.annotations));
  // Leftovers of crashed processes.
  await stagings.sweep(orphanAgeMs);

  const record = async (id: string): Promise<BundleRecord> => {
    checkBundleId(kind, id);
    const found = await readBundleRecord(objects, keys.record(id));
    if (found === null) throw bundleNotFound(kind, `bundle ${id}`);
    return found;
  };
  const fileOf = async (id: string, name: string) => {
    checkBundleFileName(kind, id, name);
    const of = await record(id);
    const file = of.files.find((candidate) => candidate.name === name);
    if (file === undefined) throw bundleNotFound(kind, `file ${name} of ${id}`);
    return { of, file };
  };
  const copyOf = ({ id, upload, files }: BundleRecord) => ({
    key: `${kind}-${upload}`,
    id,
    bytes: totalBytes(files),
  });
  const removeFiles = async ({ id, upload, files }: BundleRecord) => {
    await mapWithConcurrency(files, FILES_AT_ONCE, ({ name }) => objects.remove(keys.file(id, upload, name)));
  };

  /** The names of its entries. Its record says which, unless a repair has added it: then they are looked for among all. */
  const entriesOf = async ({ id, entry }: BundleRecord): Promise<string[]> =>
    entry !== undefined && (await index.has(entry)) ? [entry] : await index.namesOf(id);

  /** @returns null when another publisher was faster */
  const store = async (
    folder: string,
    names: readonly string[],
    id: string,
    listing?: Listing,
  ): Promise<BundleRecord | null> => {
    if (await objects.has(keys.record(id))) return null;
    const beginMs = Date.now();
    const upload = `${beginMs.toString(36)}${randomBytes(8).toString('hex')}`;
    const files = await uploadFiles(objects, keys, { folder, names, id, upload });
    if (Date.now() - beginMs > orphanAgeMs / 2) {
      throw new ProductError('storage_unavailable', `Storing ${id} took too long. Try again.`);
    }
    const entry = listing && { entry: await index.add(id, listing) };
    const made: BundleRecord = { version: 1, id, upload, created_at: new Date().toISOString(), files, ...entry };
    if ((await objects.create(keys.record(id), JSON.stringify(made))) === 'created') return made;
    // It may be our own: an attempt whose answer was lost.
    const there = await readBundleRecord(objects, keys.record(id));
    if (there?.upload === upload) return made;
    await removeFiles(made);
    if (made.entry !== undefined) await index.remove(made.entry);
    return null;
  };

  const has = async (id: string): Promise<boolean> => isBundleId(id) && (await objects.has(keys.record(id)));
  const list = async (prefix = ''): Promise<string[]> => {
    const ids: string[] = [];
    for (const key of await listKeys(objects, keys.records + prefix)) {
      const id = key.slice(keys.records.length).replace(/\.json$/, '');
      if (isBundleId(id) && keys.record(id) === key) ids.push(id);
    }
    return ids.sort();
  };

  return {
    annotations,
    record,
    has,
    list,
    newest: (options) => index.newest(options),
    entries: (owner) => index.entries(owner),
    async repairIndex(listingOf, olderThanMs) {
      const repaired = await index.repair({ list, has }, listingOf, Math.max(olderThanMs, orphanAgeMs));
      return repaired + (await annotations.sweep(has));
    },
    stage: () => stagings.stage(),
    sweepStaging: (olderThanMs) => stagings.sweep(olderThanMs),
    sweepOrphans: (olderThanMs) => sweepS3Orphans(objects, keys, Math.max(olderThanMs, orphanAgeMs)),

    async publish(staging, id, listing) {
      checkBundleId(kind, id);
      const made = await store(staging.path, await fileNames(staging.path), id, listing);
      if (made === null) return false;
      // The copy only saves a later download. The bundle exists without it.
      await cache.adopt(copyOf(made), staging).catch(() => {});
      return true;
    },

    async publishFrom(folder, names, id) {
      checkBundleId(kind, id);
      for (const name of names) checkBundleFileName(kind, id, name);
      return (await store(folder, names, id)) !== null;
    },

    async hold(id) {
      const found = await record(id);
      const fetch = cache.hold({
        ...copyOf(found),
        fetch: (staging) => downloadFiles(objects, keys, found, staging),
      });
      return await fetch;
    },

    async files(id) {
      const { created_at, files } = await record(id);
      const mtime = new Date(created_at);
      return files.map(({ name, bytes }) => ({ name, bytes, mtime })).sort((a, b) => (a.name < b.name ? -1 : 1));
    },

    async stat(id, name) {
      const { of, file } = await fileOf(id, name);
      return { name, bytes: file.bytes, mtime: new Date(of.created_at) };
    },

    async read(id, name, range) {
      const { of, file } = await fileOf(id, name);
      const copy = await cache.peek(copyOf(of).key, id);
      if (copy !== null) {
        try {
          const handle = await open(path.join(copy, name), constants.O_RDONLY | constants.O_NOFOLLOW);
          return handle.createReadStream({ ...range, highWaterMark: 256 * 1024 });
        } catch (error) {
          if (!isAbsent(error)) throw error;
        }
      }
      if (file.bytes === 0) return Readable.from([]);
      const body = await objects.read(keys.file(id, of.upload, name), range);
      if (body === null) throw bundleNotFound(kind, `file ${name} of ${id}`);
      return body;
    },

    async localFile(id, name) {
      const { of, file } = await fileOf(id, name);
      const copy = await cache.peek(copyOf(of).key, id);
      return copy === null ? null : { path: path.join(copy, name), bytes: file.bytes };
    },

    async temporaryUrl(id, name, temporary) {
      const { of } = await fileOf(id, name);
      return await objects.temporaryUrl(keys.file(id, of.upload, name), temporary);
    },

    async readJson(id, name) {
      const { of, file } = await fileOf(id, name);
      try {
        checkJsonSize(file.bytes);
        const content = await objects.readWhole(keys.file(id, of.upload, name), MAX_JSON_BYTES);
        if (content === null) throw new Error('it is missing');
        return JSON.parse(content.toString('utf8'));
      } catch (cause) {
        if (cause instanceof ProductError) throw cause;
        const message = `The file ${name} of ${id} in ${kind} cannot be read (${(cause as Error).message}).`;
        throw new ProductError('internal_error', message, { cause });
      }
    },

    async delete(id) {
      if (!isBundleId(id)) return false;
      const found = await readBundleRecord(objects, keys.record(id));
      if (found === null) return false;
      // Those of this bundle, and none of another that is published under its id once it is gone.
      const entries = await entriesOf(found);
      await objects.remove(keys.record(id));
      await removeFiles(found);
      for (const entry of entries) await index.remove(entry);
      await annotations.remove(id);
      await cache.remove(copyOf(found).key);
      return true;
    },
  };
}
