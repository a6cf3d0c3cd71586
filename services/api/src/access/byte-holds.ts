import { onRedis, redisScript } from '@lorasmith/job-store';
import type { Redis } from 'ioredis';

/**
 * Bytes reserved for the uploads in progress, in Redis, so that concurrent uploads to any api process cannot together
 * exceed a quota that each alone respects.
 */
export interface ByteHolds {
  /**
   * Sets the bytes that the upload reserves in each pool.
   * @returns the bytes that all uploads reserve, by pool
   * @throws ProductError `redis_unavailable`
   */
  hold(pools: readonly string[], upload: string, bytes: number): Promise<number[]>;
  /** Releases what the upload reserves; harmless if there is nothing. */
  release(pools: readonly string[], upload: string): Promise<void>;
}

/**
 * Keys: one hash per pool, upload → `bytes:expiry`. Returns the reserved bytes of each pool. Reservations of processes
 * that died are dropped when they expire.
 */
const holdScript = redisScript(`
local pools, upload, bytes, duration_ms = KEYS, ARGV[1], ARGV[2], ARGV[3]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local sums = {}
for i, pool in ipairs(pools) do
  redis.call('HSET', pool, upload, bytes .. ':' .. string.format('%.0f', now + duration_ms))
  redis.call('PEXPIRE', pool, duration_ms)
  local sum, entries = 0, redis.call('HGETALL', pool)
  for j = 1, #entries, 2 do
    local held, expiry = string.match(entries[j + 1], '^(%d+):(%d+)$')
    if tonumber(expiry) < now then redis.call('HDEL', pool, entries[j]) else sum = sum + tonumber(held) end
  end
  sums[i] = string.format('%.0f', sum)
end
return sums
`);

export interface ByteHoldsOptions {
  redis: Redis;
  prefix: string;
  /** Lifetime of a reservation: longer than any upload takes. */
  lastMs: number;
}

export function createByteHolds({ redis, prefix, lastMs }: ByteHoldsOptions): ByteHolds {
  const keyOf = (pool: string) => `${prefix}held-bytes:${pool}`;
  return {
    hold: (pools, upload, bytes) =>
      onRedis(async () => {
        const answer = await holdScript(redis, pools.map(keyOf), [upload, bytes, lastMs]);
        return (answer as string[]).map(Number);
      }),
    release: (pools, upload) =>
      onRedis(async () => {
        await Promise.all(pools.map((pool) => redis.hdel(keyOf(pool), upload)));
      }),
  };
}
