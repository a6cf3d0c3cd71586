import {
  ENDED_STATUSES,
  JOB_STATUSES,
  type JobId,
  type JobStatus,
  type SweepId,
  UNFINISHED_STATUSES,
} from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import type { JobKeys } from '../keys.js';
import { repliesOf } from '../redis/redis-errors.js';

/** The number of jobs by status, and how long they wait. */
export interface QueueStatus {
  jobs: Record<JobStatus, number>;
  /** When the job that has waited longest was created; null if no job waits. */
  oldestQueuedAt: Date | null;
}

interface Deps {
  redis: Redis;
  keys: JobKeys;
}

/** How many ended jobs are read at once, and the maximum that is returned. */
const ENDED_BATCH = 100;

/** The oldest ended jobs of an index that exceed its `limit` of ended jobs, without those of a sweep that has not ended: it compares them. */
export async function endedBeyond({ redis, keys }: Deps, index: string, limit: number): Promise<JobId[]> {
  const count = redis.pipeline().zcard(index);
  for (const status of UNFINISHED_STATUSES) count.zintercard(2, index, keys.withStatus(status));
  const [all = 0, ...unfinished] = repliesOf(await count.exec()) as number[];
  const excess = all - unfinished.reduce((sum, some) => sum + some, 0) - limit;
  if (excess <= 0) return [];
  const active = new Set(await redis.smembers(keys.activeSweeps));
  const found: JobId[] = [];
  let spared = 0;
  for (let from = 0; found.length < Math.min(excess - spared, ENDED_BATCH); from += ENDED_BATCH) {
    const ids = (await redis.zrange(index, String(from), String(from + ENDED_BATCH - 1))) as JobId[];
    if (ids.length === 0) break;
    const look = redis.pipeline();
    for (const id of ids) look.hmget(keys.job(id), 'status', 'sweep');
    const replies = repliesOf(await look.exec()) as [status: JobStatus | null, sweep: string | null][];
    for (const [i, [status, sweep]] of replies.entries()) {
      if (!ENDED_STATUSES.some((ended) => ended === status)) continue;
      if (sweep !== null && active.has((JSON.parse(sweep) as { id: SweepId }).id)) spared++;
      else found.push(ids[i]!);
    }
  }
  return found.slice(0, Math.max(excess - spared, 0));
}

/** Reads counts that Redis maintains, so the cost does not grow with the number of jobs. */
export async function readQueueStatus({ redis, keys }: Deps): Promise<QueueStatus> {
  const pipeline = redis.pipeline();
  for (const status of JOB_STATUSES) pipeline.zcard(keys.withStatus(status));
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
