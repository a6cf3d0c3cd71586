import { JOB_STATUSES, type JobId, type JobStatus } from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import type { JobKeys } from './keys.js';
import { repliesOf } from './redis-errors.js';

/** How many jobs there are, and how long they wait. */
export interface QueueStatus {
  jobs: Record<JobStatus, number>;
  /** When the job that has waited longest was sent; null when none waits. */
  oldestQueuedAt: Date | null;
}

/** Reads counts that Redis keeps anyway: its cost does not grow with the number of jobs. */
export async function readQueueStatus({ redis, keys }: { redis: Redis; keys: JobKeys }): Promise<QueueStatus> {
  const pipeline = redis.pipeline();
  for (const key of keys.everyStatus) pipeline.zcard(key);
  pipeline.zrange(keys.withStatus('queued'), '0', '0');
  const replies = repliesOf(await pipeline.exec());
  const counts = JOB_STATUSES.map((status, i) => [status, replies[i]] as const);
  const [oldest] = replies.at(-1) as JobId[];
  const createdAt = oldest === undefined ? null : await redis.hget(keys.job(oldest), 'created_at');
  return {
    jobs: Object.fromEntries(counts) as Record<JobStatus, number>,
    oldestQueuedAt: createdAt === null ? null : new Date(createdAt),
  };
}
