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
import type { ExampleStore } from '@lorasmith/planning';
import type { JobStore } from '@lorasmith/queue';
import { gunzip, textOfFile } from '@lorasmith/row-files';
import { type Caller, visibleOwner } from '@lorasmith/service-kit';
import { type BundleLease, type BundleStore, type Digest, ListedRecords } from '@lorasmith/storage';
import type { FastifyBaseLogger } from 'fastify';
import type { ByteQuota, MeteredUpload, StoredBytes } from '../access/byte-quota.js';
import { ConcurrencyLimit } from '../access/concurrency-limit.js';
import type { AccessLimits } from '../access/limits.js';
import { type BoundedReader, type FileReading, fromStagedFile } from './bounded-reader.js';
import { type DatasetLimits, type DatasetSummary, orNothingStored } from './dataset-checker.js';
import type { RowChecks } from './row-checks.js';
import type { UploadSource } from './upload-source.js';

/** A page of datasets in the order of time. */
interface ListDatasetsOptions {
  limit: number;
  after?: string | undefined;
  /** @defaultValue `desc`: newest first */
  order?: 'asc' | 'desc' | undefined;
}

/** The part of a metered upload that the catalog uses. */
type StorageQuota = Pick<MeteredUpload, 'metered' | 'checkMore'>;

/** The most bytes of an unpacked file: a multiple of its compressed bytes, beyond some that it always may have. Text of JSON with long prompts that repeat has up to 100. */
const GROWTH = { times: 200, beyondBytes: 2 ** 24 };
/** Limits, for docs/limits.md. */
export const growthLimits = {
  times: { value: GROWTH.times, unit: 'times its bytes', beyond: '422 `invalid_dataset`' },
  beyond: { value: GROWTH.beyondBytes, unit: 'bytes', beyond: 'the limit before applies' },
};

interface DatasetCatalogOptions {
  store: BundleStore;
  limits: DatasetLimits;
  reader: Pick<BoundedReader, 'read'>;
  checks: Pick<RowChecks, 'check'>;
}

/** The datasets of the store, with their records. */
export class DatasetCatalog {
  readonly #options: DatasetCatalogOptions;
  readonly #records: ListedRecords<Dataset>;

  constructor(options: DatasetCatalogOptions) {
    this.#options = options;
    const { store } = options;
    this.#records = new ListedRecords<Dataset>({
      store,
      what: 'dataset',
      read: async (id) => withDetails(await readDataset(store, id), null),
      annotate: withDetails,
    });
  }

  /**
   * Checks and stores an upload. Where the same rows of the same owner are stored, returns the existing dataset, with the warnings of
   * this upload. Stores nothing if it throws.
   * @param quota - Meters the bytes that are stored
   * @throws ProductError `invalid_dataset`, `dataset_empty`, `body_too_large`, `storage_full`; errors of the source and of the quota
   */
  async add(
    source: UploadSource,
    uploader: { owner: Owner; key: KeyId | null },
    quota: StorageQuota,
  ): Promise<{ dataset: Dataset; created: boolean }> {
    const { store, limits, checks } = this.#options;
    const staging = await store.stage();
    try {
      const { columns, signal } = source;
      const text = this.#textOf(source, uploader.key, quota);
      let summary: DatasetSummary | undefined;
      async function* checked() {
        summary = yield* checks.check(orNothingStored(text), { limits, columns, key: uploader.key, signal });
      }
      // Rows may become longer where they are mapped.
      const rows = bounded(checked(), limits.maxBytes, 'dataset');
      const digest = await staging.write(DATASET_FILES.rows, quota.metered(rows, source.declaredBytes));
      const dataset = newRecord(digest, uploader.owner, await source.name(), summary!);
      if (!(await store.has(dataset.id))) quota.checkMore(1);
      await writeDataset(staging, dataset);
      if (await store.publish(staging, dataset.id, dataset)) {
        return { dataset: withDetails(dataset, null), created: true };
      }
      const stored = await sameDataset(await this.get(dataset.id), dataset.sha256);
      return { dataset: { ...stored, warnings: dataset.warnings }, created: false };
    } finally {
      await staging.discard();
    }
  }

  /** The dataset with its present name, tags and note. @throws ProductError `dataset_not_found` */
  async get(id: string): Promise<Dataset> {
    // As it is now: its id follows from its rows, so another upload of them has the same id, with its own name and time.
    return await this.#records.annotated(id);
  }

  /** The dataset as it was uploaded: tags and notes take another look at the store. @throws ProductError `dataset_not_found` */
  async uploaded(id: string): Promise<UploadedDataset> {
    return await this.#records.current(id);
  }

  /** The owner of the dataset; undefined if it does not exist. */
  async ownerOf(id: string): Promise<Owner | undefined> {
    return (await this.uploaded(id).catch(nullIfMissing))?.owner;
  }

  /** Number of datasets and bytes of their rows, of the owner and of all owners. */
  async stored(owner: Owner): Promise<StoredBytes> {
    return await this.#records.stored(owner);
  }

  /** The datasets that the caller may use. @throws ProductError `invalid_request` if there is no dataset `after` */
  async list({ after, limit, order }: ListDatasetsOptions, caller: Caller): Promise<Paged<Dataset>> {
    return await this.#records.page({ after, limit, order, owner: visibleOwner(caller) });
  }

  /**
   * The datasets that the caller may use and that match, newest first unless sorted otherwise.
   * @throws ProductError `invalid_request` as `list`, and for a time that does not exist
   */
  async search(
    { after, limit, sha256, q, sort = 'created_at', order, ...query }: DatasetQuery & { limit: number },
    caller: Caller,
  ): Promise<Counted<Dataset>> {
    const filter = detailsFilterOf(query);
    const isFound = (dataset: Dataset) =>
      matchesDetails(dataset, filter) && hasText([dataset.name, dataset.id, ...dataset.tags], q);
    const isFiltered = q !== undefined || Object.keys(filter).length > 0;
    return await this.#records.search({
      after,
      limit,
      owner: visibleOwner(caller),
      // The id of a dataset follows from its digest and its owner.
      matches: sha256 === undefined ? undefined : (entry) => entry.id === datasetIdOf(sha256, entry.owner),
      isFound: isFiltered ? isFound : undefined,
      sortBy: sort === 'created_at' ? undefined : (dataset) => dataset[sort],
      order: orderOf(sort, order),
    });
  }

  /** Changes name, tags and note, all at once. @throws ProductError `dataset_not_found`, `storage_full` */
  async changeDetails(id: string, change: DetailsChange): Promise<Dataset> {
    return await this.#records.change(id, annotationChange(change));
  }

  /** Deletes the dataset. @throws ProductError `dataset_not_found` */
  async delete(id: string): Promise<void> {
    const deleted = await this.#options.store.delete(id);
    this.#records.forget(id);
    if (!deleted) throw datasetNotFound(id);
  }

  /** The dataset as a local folder, until it is released. @throws ProductError `dataset_not_found` */
  async lease(id: string): Promise<BundleLease> {
    return await this.#options.store.lease(id).catch(missingDataset(id));
  }

  /** The uploaded bytes. They can be read completely even if the dataset is deleted meanwhile. @throws ProductError `dataset_not_found` */
  async read(id: string): Promise<Readable> {
    return await this.#options.store.read(id, DATASET_FILES.rows).catch(missingDataset(id));
  }

  /** The text of an uploaded file, which may be compressed, or Parquet. */
  #textOf(source: UploadSource, key: KeyId | null, quota: StorageQuota) {
    const { store, limits, reader } = this.#options;
    const { columns, signal } = source;
    const metered = (chunks: AsyncIterable<Buffer>) => quota.metered(chunks, source.declaredBytes);
    const reading = { columns: columns ?? ('of-rows' as const), key, signal, ...limits };
    const read = (form: FileReading['form']) => (chunks: AsyncIterable<Buffer>) =>
      reader.read(metered(chunks), store, { form, ...reading });
    const ungzip = (chunks: AsyncIterable<Buffer>) =>
      fromStagedFile(metered(chunks), store, (file) => gunzip(createReadStream(file)));
    const readers = { ungzip, unzstd: read('zstd'), linesOfParquet: read('parquet') };
    return textOfFile(source.chunks, { ...limits, growth: GROWTH, ...readers });
  }
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

export interface DatasetChangesOptions {
  catalog: Pick<DatasetCatalog, 'add' | 'uploaded' | 'delete'>;
  jobs: { inputs: Pick<JobStore['inputs'], 'beginDeletion' | 'allow'> };
  examples: Pick<ExampleStore, 'removeDataset'>;
  quota: ByteQuota;
}

export interface Uploader {
  /** The owner of the dataset. */
  owner: Owner;
  /** The API key of the request. */
  key: KeyId | null;
  limits: AccessLimits;
  log: Pick<FastifyBaseLogger, 'warn'>;
}

export interface DatasetChanges {
  /**
   * Checks and stores a dataset within the limits of its uploader. The same bytes of the same owner are the same dataset.
   * Stores nothing if it throws.
   * @param openSource - Called once the upload is allowed to start
   * @throws ProductError `invalid_dataset`, `dataset_empty`, `quota_exceeded`, `storage_full`, `service_unavailable`;
   * errors of the source
   */
  upload(openSource: () => UploadSource, uploader: Uploader): Promise<{ dataset: Dataset; created: boolean }>;
  /**
   * Deletes a dataset that no unfinished job uses, and its tokens.
   * @throws ProductError `dataset_not_found`, `in_use`, `redis_unavailable`
   */
  delete(id: string, log: Uploader['log']): Promise<void>;
}

export function createDatasetChanges({ catalog, jobs, examples, quota }: DatasetChangesOptions): DatasetChanges {
  const uploads = new ConcurrencyLimit('uploads of datasets');
  return {
    async upload(openSource, { owner, key, limits, log }) {
      const close = uploads.acquire(key, { own: limits.uploads, total: limits.totalUploads });
      const upload = quota.begin(owner, {
        own: limits.datasetBytes,
        total: limits.totalDatasetBytes,
        things: { own: limits.datasets, total: limits.totalDatasets },
      });
      try {
        const stored = await catalog.add(openSource(), { owner, key }, upload);
        // An earlier deletion of the same dataset may still prevent new jobs on it. Without Redis no job can be created
        // anyway, and that entry expires within a minute.
        if (stored.created) await jobs.inputs.allow(stored.dataset.id).catch(ignoreWithoutRedis);
        return stored;
      } finally {
        close();
        await upload
          .end()
          .catch(() => log.warn("an upload's reservation of the quota could not be released now; it expires later"));
      }
    },

    async delete(id, log) {
      // A missing dataset is reported before a deletion is recorded.
      await catalog.uploaded(id);
      const users = await jobs.inputs.beginDeletion(id);
      if (users.length > 0) {
        const message = `${id} is used by ${users.slice(0, 5).join(', ')}. Cancel these jobs, or wait for them, first.`;
        throw new ProductError('in_use', message, { param: 'id' });
      }
      await catalog.delete(id);
      // The next cleanup of a worker removes tokens that remain.
      await examples
        .removeDataset(id)
        .catch((error: unknown) => log.warn({ err: error, dataset: id }, 'the tokens of a dataset were not removed'));
    },
  };
}

function ignoreWithoutRedis(error: unknown): void {
  if (!(error instanceof ProductError) || error.code !== 'redis_unavailable') throw error;
}
