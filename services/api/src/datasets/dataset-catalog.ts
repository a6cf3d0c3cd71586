import { createReadStream } from 'node:fs';
import type { Readable } from 'node:stream';
import {
  annotationChange,
  datasetIdOf,
  datasetNotFound,
  detailsOf,
  readDataset,
  writeDataset,
} from '@lorasmith/artifacts';
import {
  bounded,
  type Counted,
  DATASET_FILES,
  type Dataset,
  type DatasetQuery,
  type DetailsChange,
  detailsFilterOf,
  hasText,
  type KeyId,
  matchesDetails,
  type Owner,
  orderOf,
  type Paged,
  ProductError,
  type UploadedDataset,
} from '@lorasmith/contracts';
import { gunzip, textOfFile } from '@lorasmith/row-files';
import { type Caller, visibleOwner } from '@lorasmith/service-kit';
import { type BundleStore, type Digest, type HeldBundle, ListedRecords } from '@lorasmith/storage';
import type { MeteredUpload, StoredBytes } from '../access/byte-quota.js';
import { type BoundedReader, type FileReading, fromStagedFile } from './bounded-reader.js';
import { type DatasetLimits, type DatasetSummary, orNothingStored } from './dataset-checker.js';
import type { RowChecks } from './row-checks.js';
import type { UploadSource } from './upload-source.js';

/** A page of datasets in the order of time. */
export interface ListDatasetsOptions {
  limit: number;
  after?: string | undefined;
  /** @defaultValue `desc`: newest first */
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
  /** The dataset as it was uploaded: tags and notes take another look at the store. @throws ProductError `dataset_not_found` */
  uploaded(id: string): Promise<UploadedDataset>;
  /** The owner of the dataset; undefined if it does not exist. */
  ownerOf(id: string): Promise<Owner | undefined>;
  /** Number of datasets and bytes of their rows, of the owner and of all owners. */
  stored(owner: Owner): Promise<StoredBytes>;
  /** The datasets that the caller may use. @throws ProductError `invalid_request` if there is no dataset `after` */
  list(options: ListDatasetsOptions, caller: Caller): Promise<Paged<Dataset>>;
  /** The datasets that the caller may use and that match, newest first unless sorted otherwise. @throws ProductError `invalid_request` as `list`, and for a time that does not exist */
  search(query: DatasetQuery & { limit: number }, caller: Caller): Promise<Counted<Dataset>>;
  /** Changes name, tags and note, all at once. @throws ProductError `dataset_not_found`, `storage_full` */
  changeDetails(id: string, change: DetailsChange): Promise<Dataset>;
  /** @throws ProductError `dataset_not_found` */
  delete(id: string): Promise<void>;
  /** The dataset as a local folder, until it is released. @throws ProductError `dataset_not_found` */
  lease(id: string): Promise<HeldBundle>;
  /** The uploaded bytes. They can be read completely even if the dataset is deleted meanwhile. @throws ProductError `dataset_not_found` */
  read(id: string): Promise<Readable>;
}

/** The most bytes of an unpacked file: a multiple of its compressed bytes, beyond some that it always may have. Text of JSON with long prompts that repeat has up to 100. */
const GROWTH = { times: 200, beyondBytes: 2 ** 24 };
/** Limits, for docs/limits.md. */
export const growthLimits = {
  times: { value: GROWTH.times, unit: 'times its bytes', beyond: '422 `invalid_dataset`' },
  beyond: { value: GROWTH.beyondBytes, unit: 'bytes', beyond: 'the limit before applies' },
};

export interface DatasetCatalogOptions {
  store: BundleStore;
  limits: DatasetLimits;
  reader: Pick<BoundedReader, 'read'>;
  checks: Pick<RowChecks, 'check'>;
}

export function createDatasetCatalog({ store, limits, reader, checks }: DatasetCatalogOptions): DatasetCatalog {
  const records = new ListedRecords<Dataset>({
    store,
    what: 'dataset',
    read: async (id) => withDetails(await readDataset(store, id), null),
    annotate: withDetails,
  });

  // As it is now: its id follows from its rows, so another upload of them has the same id, with its own name and time.
  const get = (id: string): Promise<Dataset> => records.annotated(id);

  const uploaded = (id: string): Promise<UploadedDataset> => records.current(id);

  const storeRows: DatasetCatalog['add'] = async (source, { owner, key }, quota) => {
    const staging = await store.stage();
    try {
      const { columns, signal } = source;
      const reading = { columns: columns ?? ('of-rows' as const), key, signal, ...limits };
      const read = (form: FileReading['form']) => (chunks: AsyncIterable<Buffer>) =>
        reader.read(quota.metered(chunks, source.declaredBytes), store, { form, ...reading });
      const ungzip = (chunks: AsyncIterable<Buffer>) =>
        fromStagedFile(quota.metered(chunks, source.declaredBytes), store, (file) => gunzip(createReadStream(file)));
      const readers = { ungzip, unzstd: read('zstd'), linesOfParquet: read('parquet') };
      const text = textOfFile(source.chunks, { ...limits, growth: GROWTH, ...readers });
      let summary: DatasetSummary | undefined;
      async function* checked() {
        summary = yield* checks.check(orNothingStored(text), { limits, columns, key, signal });
      }
      // Rows may become longer where they are mapped.
      const rows = bounded(checked(), limits.maxBytes, 'dataset');
      const digest = await staging.write(DATASET_FILES.rows, quota.metered(rows, source.declaredBytes));
      const dataset = newRecord(digest, owner, await source.name(), summary!);
      if (!(await store.has(dataset.id))) quota.checkMore(1);
      await writeDataset(staging, dataset);
      if (await store.publish(staging, dataset.id, dataset))
        return { dataset: withDetails(dataset, null), created: true };
      const stored = await sameDataset(await get(dataset.id), dataset.sha256);
      return { dataset: { ...stored, warnings: dataset.warnings }, created: false };
    } finally {
      await staging.discard();
    }
  };

  return {
    add: storeRows,
    get,
    uploaded,
    async ownerOf(id) {
      return (await uploaded(id).catch(nullIfMissing))?.owner;
    },
    stored: (owner) => records.stored(owner),
    list: ({ after, limit, order }, caller) => records.page({ after, limit, order, owner: visibleOwner(caller) }),
    async search({ after, limit, sha256, q, sort = 'created_at', order, ...query }, caller) {
      const filter = detailsFilterOf(query);
      const isFound = (dataset: Dataset) =>
        matchesDetails(dataset, filter) && hasText([dataset.name, dataset.id, ...dataset.tags], q);
      const isFiltered = q !== undefined || Object.keys(filter).length > 0;
      return await records.search({
        after,
        limit,
        owner: visibleOwner(caller),
        // The id of a dataset follows from its digest and its owner.
        matches: sha256 === undefined ? undefined : (entry) => entry.id === datasetIdOf(sha256, entry.owner),
        isFound: isFiltered ? isFound : undefined,
        sortBy: sort === 'created_at' ? undefined : (dataset) => dataset[sort],
        order: orderOf(sort, order),
      });
    },
    changeDetails: (id, change) => records.change(id, annotationChange(change)),
    async delete(id) {
      const deleted = await store.delete(id);
      records.forget(id);
      if (!deleted) throw datasetNotFound(id);
    },
    lease: (id) => store.hold(id).catch(missingDataset(id)),
    read: (id) => store.read(id, DATASET_FILES.rows).catch(missingDataset(id)),
  };
}

function withDetails(dataset: UploadedDataset, annotation: unknown): Dataset {
  return { ...dataset, ...detailsOf(dataset, annotation) };
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

function newRecord(
  { sha256, bytes }: Digest,
  owner: Owner,
  name: string | null,
  { format, rows, features, warnings }: DatasetSummary,
): UploadedDataset {
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
