import { truncate } from 'node:fs/promises';
import path from 'node:path';
import { ProductError } from '@lorasmith/contracts';
import { digestOfFiles, readModelFolder, type WeightDigests } from '@lorasmith/model-folder';
import type { BundleRecord, S3BundleStore, Staging } from '@lorasmith/storage';
import { isWeightFile } from './model-files.js';

/** A safetensors file starts with the length of its header, in 8 bytes. */
const LENGTH_BYTES = 8;
/** The limit of the safetensors reader. */
const MAX_HEADER_BYTES = 100_000_000;
/** Assumed size of a header before it is known. The headers of the largest models have about 1 MiB. */
const EXPECTED_HEADER_BYTES = 2 ** 20;

/** Approximate size of an outline on disk. */
export function outlineBytes({ files }: BundleRecord): number {
  const sizes = files.map(({ name, bytes }) => (isWeightFile(name) ? Math.min(bytes, EXPECTED_HEADER_BYTES) : bytes));
  return sizes.reduce((sum, size) => sum + size, 0);
}

/**
 * Fetches a model without the values of its weights. Each weight file is a sparse file of the same size that contains only the
 * header: names and shapes can be read, tensors cannot.
 *
 * @throws ProductError `internal_error` for a file that has changed; `model_file_corrupt`
 */
export async function fetchOutline(store: S3BundleStore, record: BundleRecord, staging: Staging): Promise<void> {
  for (const { name, bytes, sha256 } of record.files) {
    if (isWeightFile(name)) {
      await fetchHeader(store, record.id, { name, bytes }, staging);
      continue;
    }
    const found = await staging.write(name, await store.read(record.id, name));
    if (found.sha256 === sha256) continue;
    throw new ProductError(
      'internal_error',
      `The file ${name} of ${record.id} in the store has changed since it was stored.`,
    );
  }
}

/** Remembers for an outline what the digest of the complete model's weights is, since it cannot be computed from the outline. */
export async function rememberDigest(digests: WeightDigests, { files }: BundleRecord, staging: Staging): Promise<void> {
  const sha256s = new Map(files.map(({ name, sha256 }) => [name, sha256]));
  try {
    const outline = await readModelFolder(staging.path);
    const digest = digestOfFiles(
      outline,
      outline.files.map(({ name }) => sha256s.get(name)!),
    );
    // Nobody writes these files again.
    await digests.remember({ ...(await digests.state(outline)), settled: true }, digest);
  } catch (error) {
    // The first use of an invalid model reports its fault.
    if (!(error instanceof ProductError)) throw error;
  }
}

async function fetchHeader(
  store: S3BundleStore,
  id: string,
  { name, bytes }: { name: string; bytes: number },
  staging: Staging,
): Promise<void> {
  const lengthRange = { start: 0, end: Math.min(bytes, LENGTH_BYTES) - 1 };
  const head = Buffer.concat(await (await store.read(id, name, lengthRange)).toArray());
  const headerBytes = head.length === LENGTH_BYTES ? Number(head.readBigUInt64LE()) : Number.POSITIVE_INFINITY;
  if (headerBytes > Math.min(MAX_HEADER_BYTES, bytes - LENGTH_BYTES)) {
    throw new ProductError('model_file_corrupt', `${id}/${name} in the store is not a safetensors file.`);
  }
  const end = LENGTH_BYTES + headerBytes - 1;
  await staging.write(name, await store.read(id, name, { start: 0, end }));
  await truncate(path.join(staging.path, name), bytes);
}
