import { type KeyId, ProductError } from '@lorasmith/contracts';
import { onRedis } from '@lorasmith/job-store';
import type { Redis } from 'ioredis';
import { RateLimiterRedis } from 'rate-limiter-flexible';

/** Counts the calls of keys, for all api processes together. */
export interface RateLimit {
  /**
   * Counts one call. A minute begins with the first call after the one before.
   * @throws ProductError `too_many_requests`, `redis_unavailable`
   */
  count(key: KeyId, perMinute: number): Promise<void>;
}

const MINUTE_SECONDS = 60;

export function createRateLimit({ redis, prefix }: { redis: Redis; prefix: string }): RateLimit {
  // The limit differs from key to key, so it is compared here.
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
