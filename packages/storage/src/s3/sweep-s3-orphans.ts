import { type BundleKeys, readBundleRecord } from './bundle-record.js';
import type { S3Objects } from './s3-objects.js';

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
export async function sweepS3Orphans(objects: S3Objects, keys: BundleKeys, olderThanMs: number): Promise<number> {
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
