import { ProductError } from '@lorasmith/contracts';
import { type Static, Type } from 'typebox';
import { Value } from 'typebox/value';
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
