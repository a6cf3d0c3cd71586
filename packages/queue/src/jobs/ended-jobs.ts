import { ENDED_STATUSES, type JobId, type JobStatus, type SweepId, UNFINISHED_STATUSES } from '@lorasmith/contracts';
import type { StoreDeps } from '../keys.js';
import { Lease } from '../redis/lease.js';
import { luaScript } from '../redis/lua-script.js';
import { onRedis, repliesOf } from '../redis/redis-errors.js';

const startCleanupScript = luaScript(import.meta.url, './jobs.lua', 'start_cleanup');

const CLEANUP_MS = 60_000;
const RENEWAL_MS = 15_000;
/** The number of ended jobs that are read at once, and the maximum that is removed. */
const ENDED_BATCH = 100;

/** Jobs that have ended: their files are cleaned up, and the oldest make space for new ones. */
export class EndedJobs {
  readonly #deps: StoreDeps;
  readonly #deleteJob: (id: JobId) => Promise<void>;

  constructor(deps: StoreDeps, deleteJob: (id: JobId) => Promise<void>) {
    this.#deps = deps;
    this.#deleteJob = deleteJob;
  }

  /**
   * Runs `work` on the files of an ended job with one of these statuses. The job cannot be resumed meanwhile, unless this
   * process hangs for a minute.
   * @returns null, without running `work`, if the job has another status or another process works on its files
   */
  async whileEnded<Result>(
    id: JobId,
    statuses: readonly JobStatus[],
    work: () => Promise<Result>,
  ): Promise<Result | null> {
    const { redis, keys } = this.#deps;
    const cleanup = keys.cleanup(id);
    const lease = new Lease(redis, cleanup, CLEANUP_MS);
    const args = { allowed_statuses: statuses.join(), token: lease.token, lease_ms: CLEANUP_MS };
    if ((await onRedis(() => startCleanupScript(redis, { record: keys.job(id), cleanup }, args))) !== 1) return null;
    lease.renewEvery(RENEWAL_MS);
    try {
      return await work();
    } finally {
      // If Redis cannot be reached, the cleanup expires.
      await lease.end().catch(() => {});
    }
  }

  /** Removes the oldest ended jobs of an index beyond a limit. A failure affects no new job; the next job removes the old ones. */
  async removeOldest(index: string, limit: number | undefined): Promise<void> {
    if (limit === undefined) return;
    const removed = this.#beyond(index, limit).then((ids) => Promise.allSettled(ids.map(this.#deleteJob)));
    await removed.catch(() => {});
  }

  /** The oldest ended jobs of an index that exceed its `limit` of ended jobs, without those of a sweep that has not ended: it compares them. */
  async #beyond(index: string, limit: number): Promise<JobId[]> {
    const { redis, keys } = this.#deps;
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
}
