import { ENDED_STATUSES, type JobId, type JobStatus, UNFINISHED_STATUSES } from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import type { JobKeys } from './keys.js';
import { repliesOf } from './redis-errors.js';

/** Looked at in one go, and answered at most. */
const BATCH = 100;

/** The oldest ended jobs of the index (all, or an owner's) beyond the `most` that are kept. */
export async function endedBeyond(
  { redis, keys }: { redis: Redis; keys: JobKeys },
  index: string,
  most: number,
): Promise<JobId[]> {
  const count = redis.pipeline().zcard(index);
  for (const status of UNFINISHED_STATUSES) count.zintercard(2, index, keys.withStatus(status));
  const [all = 0, ...unfinished] = repliesOf(await count.exec()) as number[];
  const excess = all - unfinished.reduce((sum, some) => sum + some, 0) - most;
  const found: JobId[] = [];
  for (let from = 0; found.length < Math.min(excess, BATCH); from += BATCH) {
    const ids = (await redis.zrange(index, String(from), String(from + BATCH - 1))) as JobId[];
    if (ids.length === 0) break;
    const look = redis.pipeline();
    for (const id of ids) look.hget(keys.job(id), 'status');
    const statuses = repliesOf(await look.exec()) as (JobStatus | null)[];
    found.push(...ids.filter((_, i) => ENDED_STATUSES.some((ended) => ended === statuses[i])));
  }
  return found.slice(0, Math.max(excess, 0));
}
