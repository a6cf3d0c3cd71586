import { onRedis, redisScript } from '@lorasmith/queue';
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

/**
 * Keys: one hash per pool, upload → `bytes:expiry`. Returns the reserved bytes of each pool. Expired reservations, left by
 * processes that died, are removed.
 */
const reserveScript = redisScript(`
local pools, upload, bytes, duration_ms = KEYS, ARGV[1], ARGV[2], ARGV[3]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local sums = {}
for i, pool in ipairs(pools) do
  redis.call('HSET', pool, upload, bytes .. ':' .. string.format('%.0f', now + duration_ms))
  redis.call('PEXPIRE', pool, duration_ms)
  local sum, entries = 0, redis.call('HGETALL', pool)
  for j = 1, #entries, 2 do
    local reserved, expiry = string.match(entries[j + 1], '^(%d+):(%d+)$')
    if tonumber(expiry) < now then redis.call('HDEL', pool, entries[j]) else sum = sum + tonumber(reserved) end
  end
  sums[i] = string.format('%.0f', sum)
end
return sums
`);

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
        const answer = await reserveScript(redis, pools.map(keyOf), [upload, bytes, durationMs]);
        return (answer as string[]).map(Number);
      }),
    release: (pools, upload) =>
      onRedis(async () => {
        await Promise.all(pools.map((pool) => redis.hdel(keyOf(pool), upload)));
      }),
  };
}
