import type { JobId, JobSpec, ModelName } from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import { type JobQueue, jobOfQueueEntry } from './job-queue.js';
import type { JobKeys } from './keys.js';

/** How many waiting jobs are considered. */
const LOOK_AHEAD = 100;

export interface BaseModelPreference {
  baseModel: ModelName;
  /** A job that has waited this long is not passed over. */
  maxPassedOverMs: number;
}

/**
 * Makes the first waiting job on a base model the next one, unless a job before it has waited too long to be passed over.
 * It only reorders the queue, in one script: which worker gets the job is decided as always. If this process dies here,
 * the queue has either the old order or the new one.
 *
 * @returns the job that was moved; null if the order is unchanged
 */
export async function preferBaseModel(
  { redis, keys, queue }: { redis: Redis; keys: JobKeys; queue: JobQueue },
  { baseModel, maxPassedOverMs }: BaseModelPreference,
): Promise<JobId | null> {
  const entries = await queue.nextEntries(LOOK_AHEAD);
  for (const [index, { entry, addedAt }] of entries.entries()) {
    const { id } = jobOfQueueEntry(entry);
    const spec = await redis.hget(keys.job(id), 'spec');
    if (spec !== null && (JSON.parse(spec) as JobSpec).base_model === baseModel) {
      if (index === 0) return null;
      await queue.moveToFront(entry);
      return id;
    }
    if (Date.now() - addedAt.getTime() >= maxPassedOverMs) return null;
  }
  return null;
}
