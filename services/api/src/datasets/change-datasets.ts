import { type Dataset, type KeyId, type Owner, ProductError } from '@lorasmith/contracts';
import type { ExampleStore } from '@lorasmith/planning';
import type { JobStore } from '@lorasmith/queue';
import type { FastifyBaseLogger } from 'fastify';
import type { ByteQuota } from '../access/byte-quota.js';
import { ConcurrencyLimit } from '../access/concurrency-limit.js';
import type { AccessLimits } from '../access/limits.js';
import type { DatasetCatalog } from './dataset-catalog.js';
import type { UploadSource } from './upload-source.js';

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
