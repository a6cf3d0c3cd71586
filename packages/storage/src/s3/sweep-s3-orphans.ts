import { type BundleKeys, readBundleRecord } from './bundle-record.js';
import type { S3Objects } from './s3-objects.js';

interface StoredUpload {
  keys: string[];
  newestMs: number;
}

/**
 * Removes the files of uploads to which no record refers and to which nothing was added for `olderThanMs`, and ends
 * uploads that were never finished.
 *
 * Records are read only where it is not clear without them: where there is none, and where a bundle has two uploads.
 * @returns how many uploads
 */
export async function sweepS3Orphans(objects: S3Objects, keys: BundleKeys, olderThanMs: number): Promise<number> {
  const before = Date.now() - olderThanMs;
  let removed = await objects.endUploads(keys.files, new Date(before));
  for await (const [id, uploads] of uploadsById(objects, keys)) {
    if ([...uploads.values()].every(({ newestMs }) => newestMs > before)) continue;
    // The one upload of a bundle that is there is the bundle's own.
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

/** One bundle after the other, as the keys are listed; of each what is stored for it. */
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
