import type { DatasetId, JobId } from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import type { InputId, JobKeys } from '../keys.js';
import { luaScript } from '../redis/lua-script.js';

const DELETION_SECONDS = 60;

const beginDeletionScript = luaScript(import.meta.url, './begin-deletion.lua');

/** The jobs that read a dataset or begin from an adapter, and whether new ones can. */
export interface InputJobs {
  /** The unfinished jobs that read the input. */
  active(id: InputId): Promise<JobId[]>;
  /**
   * Call this before an input is deleted. No job with it can be created for the next minute, which is longer than
   * a request that still saw it takes to create one.
   * @returns the unfinished jobs that read it. If there are any, nothing was changed
   */
  beginDeletion(id: InputId): Promise<JobId[]>;
  /** Allows jobs on a dataset again after it was uploaded again. */
  allow(id: DatasetId): Promise<void>;
}

export function createInputJobs({ redis, keys }: { redis: Redis; keys: JobKeys }): InputJobs {
  return {
    active: (id) => redis.smembers(keys.activeOfInput(id)),
    async beginDeletion(id) {
      const scriptKeys = { input_jobs: keys.activeOfInput(id), input_deletion: keys.inputDeletion(id) };
      return (await beginDeletionScript(redis, scriptKeys, { seconds: DELETION_SECONDS })) as JobId[];
    },
    async allow(id) {
      await redis.del(keys.inputDeletion(id));
    },
  };
}
