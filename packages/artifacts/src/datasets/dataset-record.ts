import { createHash } from 'node:crypto';
import {
  checkNewRecord,
  checkRecordVersion,
  DATASET_FILES,
  DatasetId,
  DatasetRecord,
  type Owner,
  ProductError,
  RECORD_VERSION,
  type UploadedDataset,
} from '@lorasmith/contracts';
import type { BundleStore, Staging } from '@lorasmith/storage';
import { Compile } from 'typebox/compile';

const idSchema = Compile(DatasetId);
const recordSchema = Compile(DatasetRecord);

/**
 * Reads the record of a stored dataset.
 * @throws ProductError `dataset_not_found`; `internal_error` when it is damaged; `unsupported_version`;
 * `storage_unavailable`
 */
export async function readDataset(datasets: Pick<BundleStore, 'readJson'>, id: string): Promise<UploadedDataset> {
  if (!idSchema.Check(id)) throw datasetNotFound(id);
  const record = await datasets.readJson(id, DATASET_FILES.record).catch((error: unknown) => {
    throw error instanceof ProductError && error.code === 'not_found' ? datasetNotFound(id) : error;
  });
  checkRecordVersion(record, `The record of ${id}`);
  if (!recordSchema.Check(record) || record.id !== id) {
    throw new ProductError('internal_error', `The record of ${id} is damaged. Restore it from a copy, or delete it.`);
  }
  const { version, ...dataset } = record;
  return dataset;
}

/**
 * Writes the record of a new dataset into its staged folder, checked as its readers check it.
 * @throws ProductError `storage_full`; `internal_error` when it could not be read again
 */
export async function writeDataset(staging: Staging, dataset: UploadedDataset): Promise<void> {
  const record: DatasetRecord = { version: RECORD_VERSION, ...dataset };
  checkNewRecord(recordSchema, record, `The record of ${dataset.id}`);
  await staging.write(DATASET_FILES.record, [Buffer.from(`${JSON.stringify(record, null, 2)}\n`)]);
}

/**
 * The id of a dataset with this sha256 (hexadecimal). The same bytes of another owner have another id, so that an id does
 * not reveal whether someone else has them.
 */
export function datasetIdOf(sha256: string, owner: Owner): DatasetId {
  const own = owner === null ? sha256 : createHash('sha256').update(`${owner} ${sha256}`).digest('hex');
  return `ds_${own.slice(0, 24)}`;
}

/** The answer for a dataset that does not exist, or that the caller may not use. */
export function datasetNotFound(id: string): ProductError {
  const message = `There is no dataset ${JSON.stringify(id.slice(0, 100))}. GET /datasets lists the datasets.`;
  return new ProductError('dataset_not_found', message, { param: 'dataset' });
}
