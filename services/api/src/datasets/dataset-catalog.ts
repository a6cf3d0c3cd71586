import type { Readable } from 'node:stream';
import { setImmediate as otherWork } from 'node:timers/promises';
import { datasetIdOf, datasetNotFound, readDataset, writeDataset } from '@lorasmith/artifacts';
import {
  bounded,
  DATASET_FILES,
  type Dataset,
  type DatasetQuery,
  type KeyId,
  type Owner,
  type Paged,
  ProductError,
} from '@lorasmith/contracts';
import { linesOfFile } from '@lorasmith/row-files';
import { type Caller, visibleOwner } from '@lorasmith/service-kit';
import { type BundleEntry, type BundleStore, type Digest, type HeldBundle, ListedRecords } from '@lorasmith/storage';
import type { MeteredUpload, StoredBytes } from '../access/byte-quota.js';
import { createConcurrencyLimit } from '../access/concurrency-limit.js';
import type { BoundedReader } from './bounded-reader.js';
import { DatasetChecker, type DatasetLimits } from './dataset-checker.js';
import type { FileReading } from './file-reading.js';
import type { UploadSource } from './upload-source.js';

export interface ListDatasetsOptions extends DatasetQuery {
  limit: number;
  /** Order by time. @defaultValue `desc`: newest first */
  order?: 'asc' | 'desc' | undefined;
}

/** The part of a metered upload that the catalog uses. */
export type StorageQuota = Pick<MeteredUpload, 'metered' | 'checkMore'>;

/** The datasets of the store, with their records. */
export interface DatasetCatalog {
  /**
   * Checks and stores an upload. Where the same rows of the same owner are stored, returns the existing dataset, with the warnings of
   * this upload. Stores nothing if it throws.
   * @param quota - Meters the bytes that are stored
   * @throws ProductError `invalid_dataset`, `dataset_empty`, `body_too_large`, `storage_full`; errors of the source and of the quota
   */
  add(
    source: UploadSource,
    uploader: { owner: Owner; key: KeyId | null },
    quota: StorageQuota,
  ): Promise<{ dataset: Dataset; created: boolean }>;
  /** @throws ProductError `dataset_not_found` */
  get(id: string): Promise<Dataset>;
  /** The owner of the dataset; undefined if it does not exist. */
  ownerOf(id: string): Promise<Owner | undefined>;
  /** Number of datasets and bytes of their rows, of the owner and of all owners. */
  stored(owner: Owner): Promise<StoredBytes>;
  /** The datasets that the caller may use. @throws ProductError `invalid_request` if there is no dataset `after` */
  list(query: ListDatasetsOptions, caller: Caller): Promise<Paged<Dataset>>;
  /** @throws ProductError `dataset_not_found` */
  delete(id: string): Promise<void>;
  /** The dataset as a local folder, until it is released. @throws ProductError `dataset_not_found` */
  hold(id: string): Promise<HeldBundle>;
  /** The uploaded bytes. They can be read completely even if the dataset is deleted meanwhile. @throws ProductError `dataset_not_found` */
  read(id: string): Promise<Readable>;
}

/** Approximate time for which checking lines blocks the event loop. */
const WORK_MS = 20;

/** Uploads of CSV with long rows, at once: the memory of the parser of each is twice that of its longest row, and more. */
const LONG_RECORDS = { own: 4, total: 8 };
/** Limits, for docs/limits.md. */
export const longRecordLimits = {
  ofKey: { value: LONG_RECORDS.own, unit: 'uploads', beyond: '429 `quota_exceeded`' },
  inAll: { value: LONG_RECORDS.total, unit: 'uploads', beyond: '503 `service_unavailable`' },
};

export interface DatasetCatalogOptions {
  store: BundleStore;
  limits: DatasetLimits;
  reader: Pick<BoundedReader, 'read'>;
}

export function createDatasetCatalog({ store, limits, reader }: DatasetCatalogOptions): DatasetCatalog {
  const records = new ListedRecords({ store, what: 'dataset', read: (id) => readDataset(store, id) });
  const longRecords = createConcurrencyLimit('uploads of CSV with long rows');

  // As it is now: its id follows from its rows, so another upload of them has the same id, with its own name and time.
  const get = (id: string): Promise<Dataset> => records.current(id);

  const storeRows: DatasetCatalog['add'] = async (source, { owner, key }, quota) => {
    const staging = await store.stage();
    let releaseLongRecords = () => {};
    try {
      const checker = new DatasetChecker(limits, source.columns);
      const { columns = 'of-rows', signal } = source;
      const read = (form: FileReading['form']) => (chunks: AsyncIterable<Buffer>) =>
        reader.read(quota.metered(chunks, source.declaredBytes), store, { form, columns, key, signal, ...limits });
      const readers = { unzstd: read('zstd'), linesOfParquet: read('parquet') };
      const onLongRecord = () => {
        releaseLongRecords = longRecords.acquire(key, LONG_RECORDS);
      };
      const lines = orNothingStored(linesOfFile(source.chunks, { ...limits, ...readers, columns, onLongRecord }));
      // Rows may become longer where they are mapped.
      const rows = bounded(checkedRows(lines, checker), limits.maxBytes, 'dataset');
      const digest = await staging.write(DATASET_FILES.rows, quota.metered(rows, source.declaredBytes));
      const dataset = newRecord(digest, owner, await source.name(), checker);
      if (!(await store.has(dataset.id))) quota.checkMore(1);
      await writeDataset(staging, dataset);
      if (await store.publish(staging, dataset.id, dataset)) return { dataset, created: true };
      const stored = await sameDataset(await get(dataset.id), dataset.sha256);
      return { dataset: { ...stored, warnings: dataset.warnings }, created: false };
    } finally {
      releaseLongRecords();
      await staging.discard();
    }
  };

  return {
    add: storeRows,
    get,
    async ownerOf(id) {
      return (await get(id).catch(nullIfMissing))?.owner;
    },
    stored: (owner) => records.stored(owner),
    async list({ after, limit, sha256, order }, caller) {
      // The id of a dataset follows from its digest and its owner.
      const matches =
        sha256 === undefined ? undefined : ({ id, owner }: BundleEntry) => id === datasetIdOf(sha256, owner);
      return await records.page({ after, limit, order, matches, owner: visibleOwner(caller) });
    },
    async delete(id) {
      const deleted = await store.delete(id);
      records.forget(id);
      if (!deleted) throw datasetNotFound(id);
    },
    hold: (id) => store.hold(id).catch(missingDataset(id)),
    read: (id) => store.read(id, DATASET_FILES.rows).catch(missingDataset(id)),
  };
}

/** A handler of errors of {@link DatasetCatalog.get}, for a dataset that may be missing. */
export function nullIfMissing(error: unknown): null {
  if (error instanceof ProductError && error.code === 'dataset_not_found') return null;
  throw error;
}

/** Turns the `not_found` of the store into `dataset_not_found`. */
function missingDataset(id: string): (error: unknown) => never {
  return (error) => {
    throw error instanceof ProductError && error.code === 'not_found' ? datasetNotFound(id) : error;
  };
}

/** Passes lines on. Says of a file whose lines cannot be read that nothing was stored. */
async function* orNothingStored(lines: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  try {
    yield* lines;
  } catch (error) {
    if (!(error instanceof ProductError) || error.code !== 'invalid_dataset') throw error;
    const { code, message, param, details } = error;
    throw new ProductError(code, `${message} Nothing was stored.`, { param, details, cause: error });
  }
}

/** The bytes to store, until a line is invalid. Then it only reads the rest to find further invalid lines. */
async function* checkedRows(chunks: AsyncIterable<Buffer>, checker: DatasetChecker): AsyncGenerator<Buffer> {
  let workedMs = 0;
  for await (const chunk of chunks) {
    const begin = performance.now();
    const stored = checker.push(chunk);
    workedMs += performance.now() - begin;
    if (workedMs >= WORK_MS) {
      await otherWork();
      workedMs = 0;
    }
    if (stored.length > 0) yield stored;
  }
  yield checker.end();
}

function newRecord({ sha256, bytes }: Digest, owner: Owner, name: string | null, checker: DatasetChecker): Dataset {
  const { format, rows, features, warnings } = checker.finish();
  const created_at = new Date().toISOString();
  return {
    id: datasetIdOf(sha256, owner),
    object: 'dataset',
    owner,
    sha256,
    name,
    format,
    rows,
    bytes,
    features,
    warnings,
    created_at,
  };
}

/** An id has only 96 bits of the digest. Other bytes with the same id must not be taken for the dataset. */
async function sameDataset(existing: Dataset, sha256: string): Promise<Dataset> {
  if (existing.sha256 === sha256) return existing;
  throw new ProductError('conflict', `Another file has the id ${existing.id}.`);
}
