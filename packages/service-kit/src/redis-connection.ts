import { Redis } from 'ioredis';
import type { Logger } from 'pino';

export interface RedisConnectionOptions {
  url: string;
  /**
   * What a command does while Redis is away. `fail-fast`: it fails at once, or 2 s after it was sent, so that a caller
   * is told; for what answers requests. `wait`: it waits for as long as it takes; for workers, as BullMQ asks.
   */
  whenAway: 'fail-fast' | 'wait';
  /** Seen in Redis' CLIENT LIST. */
  name: string;
  logger: Logger;
}

const COMMAND_TIMEOUT_MS = 2_000;
const RECONNECT_MAX_MS = 2_000;

/** A connection that comes back by itself and logs when it goes and comes. It connects at once; close it with `quit()` or `disconnect()`. */
export function connectRedis({ url, whenAway, name, logger }: RedisConnectionOptions): Redis {
  const redis = new Redis(url, {
    connectionName: name,
    connectTimeout: COMMAND_TIMEOUT_MS,
    retryStrategy: (attempt) => Math.min(50 * 2 ** Math.min(attempt, 10), RECONNECT_MAX_MS),
    ...(whenAway === 'fail-fast'
      ? {
          enableOfflineQueue: false,
          autoResendUnfulfilledCommands: false,
          maxRetriesPerRequest: 0,
          commandTimeout: COMMAND_TIMEOUT_MS,
        }
      : { maxRetriesPerRequest: null }),
  });
  let away = false;
  // One line when it goes, not one for every attempt to reconnect.
  redis.on('error', (error: Error) => {
    if (!away) logger.error({ err: error }, 'Redis cannot be reached');
    away = true;
  });
  redis.on('ready', () => {
    if (away) logger.info('Redis is back');
    away = false;
  });
  return redis;
}

/** Waits until commands are taken. @returns false when that has not come within the time */
export async function redisReady(redis: Redis, timeoutMs: number): Promise<boolean> {
  if (redis.status === 'ready') return true;
  return await new Promise((resolve) => {
    const finish = (ready: boolean) => {
      clearTimeout(timer);
      redis.off('ready', onReady);
      resolve(ready);
    };
    const onReady = () => finish(true);
    const timer = setTimeout(() => finish(false), timeoutMs);
    redis.once('ready', onReady);
  });
}
