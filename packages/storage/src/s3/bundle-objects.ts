import { createReadStream } from 'node:fs';
import { rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { mapWithConcurrency } from '@lorasmith/concurrency';
import { ProductError } from '@lorasmith/contracts';
import { type Static, Type } from 'typebox';
import { Value } from 'typebox/value';
import type { Staging } from '../bundle-store.js';
import { type Digest, DigestStream } from '../digest-stream.js';
import { MAX_JSON_BYTES } from '../local-files.js';
import type { S3Objects } from './s3-objects.js';

/** The object that makes a bundle exist: where its files are and what they must be. */
export const BundleRecord = Type.Object({
  version: Type.Literal(1),
  id: Type.String(),
  /** Folder of the files; a new one each time a bundle is published, so that nothing is ever replaced. */
  upload: Type.String({ pattern: '^[0-9a-z]{1,64}$' }),
  created_at: Type.String(),
  /** Its name in the index; absent for kinds that are not listed. */
  entry: Type.Optional(Type.String()),
  files: Type.Array(
    Type.Object({
      name: Type.String(),
      bytes: Type.Integer({ minimum: 0 }),
      sha256: Type.String({ pattern: '^[0-9a-f]{64}$' }),
    }),
  ),
});
export type BundleRecord = Static<typeof BundleRecord>;

/** The keys of one kind of bundle. */
export interface BundleKeys {
  records: string;
  /** Prefix of the index. */
  index: string;
  /** Prefix of the annotations. */
  annotations: string;
  record(id: string): string;
  files: string;
  filesOf(id: string): string;
  file(id: string, upload: string, name: string): string;
}

/**
 * Records have their own folder, so bundles are listed a thousand at a time, whatever their number of files.
 */
export function bundleKeys(kind: string): BundleKeys {
  const records = `${kind}/records/`;
  const files = `${kind}/files/`;
  return {
    records,
    index: `${kind}/index/`,
    annotations: `${kind}/annotations/`,
    record: (id) => `${records}${id}.json`,
    files,
    filesOf: (id) => `${files}${id}/`,
    file: (id, upload, name) => `${files}${id}/${upload}/${name}`,
  };
}

/** Null when the bundle does not exist. @throws ProductError `internal_error` when its record is invalid */
export async function readBundleRecord(objects: S3Objects, key: string): Promise<BundleRecord | null> {
  const text = await objects.readWhole(key, MAX_JSON_BYTES);
  if (text === null) return null;
  try {
    const record: unknown = JSON.parse(text.toString('utf8'));
    if (Value.Check(BundleRecord, record)) return record;
  } catch (cause) {
    throw damaged(key, cause);
  }
  throw damaged(key);
}

function damaged(key: string, cause?: unknown): ProductError {
  return new ProductError('internal_error', `The record ${key} in the store is damaged.`, { cause });
}

/** Concurrent transfers of files of one bundle. */
export const FILES_AT_ONCE = 3;
const READ_BYTES = 2 ** 20;
/** Attempts to read a file whose connection is lost. */
const MAX_TRIES = 3;

/** Uploads the files of a folder as a new upload of the bundle. @returns the stored files */
export async function uploadFiles(
  objects: S3Objects,
  keys: BundleKeys,
  { folder, names, id, upload }: { folder: string; names: readonly string[]; id: string; upload: string },
): Promise<BundleRecord['files']> {
  return await mapWithConcurrency(names, FILES_AT_ONCE, async (name) => {
    const file = path.join(folder, name);
    const { size } = await stat(file);
    const digesting = new DigestStream();
    // The upload sees only errors of the last stream, so errors of the source are passed on.
    const source = createReadStream(file, { highWaterMark: READ_BYTES });
    source.once('error', (error) => digesting.destroy(error));
    try {
      await objects.write(keys.file(id, upload, name), source.pipe(digesting), size);
    } finally {
      source.destroy();
    }
    const { sha256, bytes } = digesting.digest;
    return { name, bytes, sha256 };
  });
}

/**
 * Downloads a bundle into a staged folder and checks the digest of every file. A lost connection is retried.
 * @throws ProductError `internal_error` naming a file that is missing or has changed; `storage_unavailable`
 */
export async function downloadFiles(
  objects: S3Objects,
  keys: BundleKeys,
  record: BundleRecord,
  staging: Staging,
): Promise<void> {
  await mapWithConcurrency(record.files, FILES_AT_ONCE, async ({ name, bytes, sha256 }) => {
    const key = keys.file(record.id, record.upload, name);
    const found = await fetchFile(objects, { key, name, bytes }, staging);
    if (found.sha256 !== sha256) throw fileChanged(key);
  });
}

async function fetchFile(
  objects: S3Objects,
  { key, name, bytes }: { key: string; name: string; bytes: number },
  staging: Staging,
): Promise<Digest> {
  for (let tries = 1; ; tries++) {
    const body = bytes === 0 ? Readable.from([]) : await objects.read(key);
    if (body === null) throw new ProductError('internal_error', `The store has lost ${key}.`);
    try {
      return await staging.write(name, body);
    } catch (error) {
      if (error instanceof ProductError) throw error;
      // The client compares the bytes with the checksum of the service.
      if ((error as Error).message.startsWith('Checksum mismatch')) throw fileChanged(key, error);
      if (tries === MAX_TRIES) throw objects.failure(error);
      await rm(path.join(staging.path, name), { force: true });
    }
  }
}

function fileChanged(key: string, cause?: unknown): ProductError {
  const message = `The file ${key} in the store has changed since it was stored.`;
  return new ProductError('internal_error', message, { cause });
}
