import type { Redis } from 'ioredis';
import type { JobKeys } from './keys.js';

/** The dependencies of every part of the store. */
export interface StoreDeps {
  redis: Redis;
  keys: JobKeys;
  /**
   * A clock instead of that of Redis, in milliseconds. All times of the queue are by one clock: those of several hosts differ, and
   * are corrected. @defaultValue that of Redis
   */
  clock?: (() => number) | undefined;
}

/** The time by the clock of the queue, in milliseconds. */
export async function queueTime({ redis, clock }: Pick<StoreDeps, 'redis' | 'clock'>): Promise<number> {
  if (clock !== undefined) return clock();
  const [seconds, microseconds] = await redis.time();
  return Number(seconds) * 1_000 + Math.floor(Number(microseconds) / 1_000);
}
