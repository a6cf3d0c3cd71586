import { type KeyId, ProductError } from '@lorasmith/contracts';
import { onRedis } from '@lorasmith/queue';
import type { Redis } from 'ioredis';
import { RateLimiterRedis } from 'rate-limiter-flexible';

/** Limits the calls of each key, across all api processes. */
export interface RateLimit {
  /**
   * Counts one call. A minute starts with the first call after the previous minute.
   * @throws ProductError `too_many_requests`, `redis_unavailable`
   */
  count(key: KeyId, perMinute: number): Promise<void>;
}

const MINUTE_SECONDS = 60;

export function createRateLimit({ redis, prefix }: { redis: Redis; prefix: string }): RateLimit {
  // Limits differ between keys, so the count is compared below.
  const counter = new RateLimiterRedis({
    storeClient: redis,
    keyPrefix: `${prefix}api-keys:calls`,
    points: Number.MAX_SAFE_INTEGER,
    duration: MINUTE_SECONDS,
  });
  return {
    async count(key, perMinute) {
      const { consumedPoints, msBeforeNext } = await onRedis(() => counter.consume(key));
      if (consumedPoints <= perMinute) return;
      const message = `This key has reached its limit of ${perMinute} calls per minute. Wait a moment.`;
      throw new ProductError('too_many_requests', message, {
        retryAfterSeconds: Math.max(1, Math.ceil(msBeforeNext / 1000)),
      });
    },
  };
}
