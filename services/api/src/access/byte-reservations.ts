import { luaScript, onRedis } from '@lorasmith/queue';
import type { Redis } from 'ioredis';

/**
 * Bytes reserved in Redis for uploads in progress. They prevent concurrent uploads, to any api process, from together
 * exceeding a quota.
 */
export interface ByteReservations {
  /**
   * Sets the reservation of an upload in each pool.
   * @returns the sum of all reservations, by pool
   * @throws ProductError `redis_unavailable`
   */
  reserve(pools: readonly string[], upload: string, bytes: number): Promise<number[]>;
  /** Releases the reservation of an upload, if there is one. */
  release(pools: readonly string[], upload: string): Promise<void>;
}

const reserveScript = luaScript(import.meta.url, './reserve-bytes.lua');

export interface ByteReservationsOptions {
  redis: Redis;
  prefix: string;
  /** Lifetime of a reservation: longer than any upload. */
  durationMs: number;
}

export function createByteReservations({ redis, prefix, durationMs }: ByteReservationsOptions): ByteReservations {
  const keyOf = (pool: string) => `${prefix}reserved-bytes:${pool}`;
  return {
    reserve: (pools, upload, bytes) =>
      onRedis(async () => {
        const answer = await reserveScript(redis, {}, { upload, bytes, duration_ms: durationMs }, [], pools.map(keyOf));
        return (answer as string[]).map(Number);
      }),
    release: (pools, upload) =>
      onRedis(async () => {
        await Promise.all(pools.map((pool) => redis.hdel(keyOf(pool), upload)));
      }),
  };
}
