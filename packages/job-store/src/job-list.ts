import { type Job, type JobId, type JobStatus, type KeyId, type Paged, ProductError } from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import { jobOfRecord } from './job-record.js';
import type { JobKeys } from './keys.js';
import { repliesOf } from './redis-errors.js';

export interface ListJobsOptions {
  status?: JobStatus | undefined;
  /** Only the jobs that belong to this key. */
  owner?: KeyId | undefined;
  /** Id of the last job of the page before. */
  after?: JobId | undefined;
  /** @defaultValue 20 */
  limit?: number | undefined;
}

/** Ids looked at in one go where a page has to be filtered. */
const BATCH = 500;

/** A page of jobs, newest first. @throws ProductError `invalid_request` when there is no job `after` in the list */
export async function listJobs(
  { redis, keys }: { redis: Redis; keys: JobKeys },
  { status, owner, after, limit = 20 }: ListJobsOptions,
): Promise<Paged<Job>> {
  const everything = owner === undefined ? keys.all : keys.ofOwner(owner);
  let before = '+inf';
  if (after !== undefined) {
    const sequence = await redis.zscore(everything, after);
    if (sequence === null) {
      throw new ProductError('invalid_request', `There is no job ${after}. Begin again at the first page.`, {
        param: 'after',
      });
    }
    before = `(${sequence}`;
  }
  const ids =
    owner !== undefined && status !== undefined
      ? await idsInBoth(redis, everything, keys.withStatus(status), before, limit + 1)
      : await newest(redis, status === undefined ? everything : keys.withStatus(status), before, limit + 1);
  const page = ids.slice(0, limit);
  const pipeline = redis.pipeline();
  for (const id of page) pipeline.hgetall(keys.job(id));
  const records = repliesOf(await pipeline.exec()) as Record<string, string>[];
  // A job deleted since the list was read has no record any more; one that changed its status is shown as it is.
  const data = records.flatMap((record, i) => jobOfRecord(page[i] as JobId, record) ?? []);
  const has_more = ids.length > limit;
  return { data, has_more, next: has_more ? (data.at(-1)?.id ?? null) : null };
}

async function newest(redis: Redis, index: string, before: string, count: number): Promise<string[]> {
  return await redis.zrevrangebyscore(index, before, '-inf', 'LIMIT', 0, count);
}

/** The newest members of the one index that are in the other, too. */
async function idsInBoth(redis: Redis, index: string, other: string, before: string, count: number): Promise<string[]> {
  const found: string[] = [];
  for (let from = before; ; ) {
    const entries = await redis.zrevrangebyscore(index, from, '-inf', 'WITHSCORES', 'LIMIT', 0, BATCH);
    const ids = entries.filter((_, i) => i % 2 === 0);
    if (ids.length === 0) return found;
    const places = await redis.zmscore(other, ...ids);
    found.push(...ids.filter((_, i) => places[i] !== null));
    if (found.length >= count || ids.length < BATCH) return found.slice(0, count);
    from = `(${entries.at(-1)}`;
  }
}
