import { createReadStream } from 'node:fs';
import { rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { mapWithConcurrency } from '@lorasmith/concurrency';
import { ProductError } from '@lorasmith/contracts';
import type { Staging } from '../bundle-store.js';
import { type Digest, DigestStream } from '../digest-stream.js';
import type { BundleKeys, BundleRecord } from './bundle-record.js';
import type { S3Objects } from './s3-objects.js';

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
