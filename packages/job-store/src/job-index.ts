import {
  ENDED_STATUSES,
  JOB_STATUSES,
  type Job,
  type JobId,
  type JobStatus,
  type KeyId,
  type Paged,
  type SweepId,
  UNFINISHED_STATUSES,
} from '@lorasmith/contracts';
import { repliesOf } from '@lorasmith/redis';
import type { Redis } from 'ioredis';
import { jobOfRecord } from './job-record.js';
import type { JobKeys } from './keys.js';
import { beginningOf, newest, pageOf } from './pages.js';

export interface ListJobsOptions {
  status?: JobStatus | undefined;
  /** Only the jobs that belong to this key. */
  owner?: KeyId | undefined;
  /** Id of the last job of the previous page. */
  after?: JobId | undefined;
  /** @defaultValue 20 */
  limit?: number | undefined;
}

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

/** Ids read at once from an index. */
const ID_BATCH = 500;
/** How many ended jobs are read at once, and the maximum that is returned. */
const ENDED_BATCH = 100;

/** A page of jobs, newest first. @throws ProductError `invalid_request` if the list has no job `after` */
export async function listJobs(
  { redis, keys }: Deps,
  { status, owner, after, limit = 20 }: ListJobsOptions,
): Promise<Paged<Job>> {
  const everything = owner === undefined ? keys.all : keys.ofOwner(owner);
  const before = await beginningOf(redis, everything, { kind: 'job', after });
  const ids =
    owner !== undefined && status !== undefined
      ? await idsInBoth(redis, everything, keys.withStatus(status), before, limit + 1)
      : await newest(redis, status === undefined ? everything : keys.withStatus(status), before, limit + 1);
  // A job whose status has changed since the index was read is returned with the new one.
  return await pageOf(redis, ids, { limit, key: keys.job, read: jobOfRecord });
}

/** The newest members of one index that are also in the other. */
async function idsInBoth(redis: Redis, index: string, other: string, before: string, count: number): Promise<string[]> {
  const found: string[] = [];
  for (let from = before; ; ) {
    const entries = await redis.zrevrangebyscore(index, from, '-inf', 'WITHSCORES', 'LIMIT', 0, ID_BATCH);
    const ids = entries.filter((_, i) => i % 2 === 0);
    if (ids.length === 0) return found;
    const scores = await redis.zmscore(other, ...ids);
    found.push(...ids.filter((_, i) => scores[i] !== null));
    if (found.length >= count || ids.length < ID_BATCH) return found.slice(0, count);
    from = `(${entries.at(-1)}`;
  }
}

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
