import type { DatasetId, JobId } from '@lorasmith/contracts';
import { luaScript } from '@lorasmith/redis';
import type { Redis } from 'ioredis';
import type { JobKeys } from './keys.js';

const DELETION_SECONDS = 60;

/** Returns the unfinished jobs that read the dataset. If there are none, no job can start to read it for `seconds`. */
const beginDeletionScript = luaScript({
  keys: ['dataset_jobs', 'dataset_deletion'],
  arguments: ['seconds'],
  lua: `
local readers = redis.call('SMEMBERS', dataset_jobs)
if #readers == 0 then redis.call('SET', dataset_deletion, '1', 'EX', seconds) end
return readers
`,
});

/** Which jobs read a dataset, and whether new jobs can. */
export interface DatasetJobs {
  /** The unfinished jobs that read the dataset. */
  active(id: DatasetId): Promise<JobId[]>;
  /**
   * Call this before a dataset is deleted. No job on the dataset can be created for the next minute, which is longer than
   * a request that still saw the dataset takes to create one.
   * @returns the unfinished jobs that read it. If there are any, nothing was changed
   */
  beginDeletion(id: DatasetId): Promise<JobId[]>;
  /** Allows jobs on the dataset again after it was uploaded again. */
  allow(id: DatasetId): Promise<void>;
}

export function createDatasetJobs({ redis, keys }: { redis: Redis; keys: JobKeys }): DatasetJobs {
  return {
    active: (id) => redis.smembers(keys.activeOfDataset(id)),
    async beginDeletion(id) {
      const scriptKeys = { dataset_jobs: keys.activeOfDataset(id), dataset_deletion: keys.datasetDeletion(id) };
      return (await beginDeletionScript(redis, scriptKeys, { seconds: DELETION_SECONDS })) as JobId[];
    },
    async allow(id) {
      await redis.del(keys.datasetDeletion(id));
    },
  };
}
