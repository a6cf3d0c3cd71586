import { onRedis, redisScript } from '@lorasmith/job-store';
import type { Redis } from 'ioredis';

/**
 * Bytes that uploads under way may come to, in Redis, so that uploads at the same time, to any api process, do not
 * together pass a limit that each alone keeps to.
 */
export interface ByteHolds {
  /**
   * Makes what the upload holds in each pool `bytes`.
   * @returns what all uploads hold, by pool
   * @throws ProductError `redis_unavailable`
   */
  hold(pools: readonly string[], upload: string, bytes: number): Promise<number[]>;
  /** Lets go; harmless when there is nothing to let go. */
  release(pools: readonly string[], upload: string): Promise<void>;
}

/**
 * Keys: one hash per pool, upload → `bytes:expiry`. Arguments: upload, bytes, milliseconds that a hold lasts.
 * Answers the bytes held in each pool. Holds whose process died are dropped once they are over.
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
  /** Longer than any upload takes. */
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
