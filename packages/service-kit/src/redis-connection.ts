import { Cluster, Redis } from 'ioredis';
import type { Logger } from 'pino';

export interface RedisConnectionOptions {
  /** `redis://[user[:password]@]host[:port][/db]`; `rediss://` for TLS; `unix://` for a socket. */
  url: string;
  /** Certificates to trust, in PEM format. @defaultValue those that Node brings */
  ca?: string | null;
  /** Whether it is a node of a cluster. @defaultValue false */
  cluster?: boolean;
  /**
   * What a command does while Redis is away. `fail-fast`: it fails at once, or 2 s after it was sent, so that a caller
   * is told; for what answers requests. `wait`: it waits for as long as it takes; for workers, as BullMQ asks.
   */
  whenUnavailable: 'fail-fast' | 'wait';
  /** Seen in Redis' CLIENT LIST. */
  name: string;
  logger: Logger;
}

const COMMAND_TIMEOUT_MS = 2_000;
const RECONNECT_MAX_MS = 2_000;

/** A connection that comes back by itself and logs when it goes and comes. It connects at once; close it with `quit()` or `disconnect()`. */
export function connectRedis(options: RedisConnectionOptions): Redis {
  const { logger } = options;
  const redis = options.cluster
    ? clusterOf(options)
    : new Redis(options.url, { ...connectionOf(options), ...reconnecting(options) });
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

function connectionOf({ ca, whenUnavailable, name }: RedisConnectionOptions) {
  return {
    connectionName: name,
    connectTimeout: COMMAND_TIMEOUT_MS,
    ...(ca ? { tls: { ca } } : {}),
    ...(whenUnavailable === 'fail-fast'
      ? { autoResendUnfulfilledCommands: false, maxRetriesPerRequest: 0, commandTimeout: COMMAND_TIMEOUT_MS }
      : { maxRetriesPerRequest: null }),
  };
}

function reconnecting({ whenUnavailable }: RedisConnectionOptions) {
  return { retryStrategy: reconnectDelayMs, ...(whenUnavailable === 'fail-fast' ? { enableOfflineQueue: false } : {}) };
}

function reconnectDelayMs(attempt: number): number {
  return Math.min(50 * 2 ** Math.min(attempt, 10), RECONNECT_MAX_MS);
}

/** It takes every command that a single Redis takes, as long as the keys of one lie on one shard. */
function clusterOf(options: RedisConnectionOptions): Redis {
  const { hostname, port, username, password, protocol } = new URL(options.url);
  const host = hostname.replace(/^\[|\]$/g, '');
  const { retryStrategy, ...queueing } = reconnecting(options);
  const cluster = new Cluster([{ host, port: Number(port || 6379) }], {
    ...queueing,
    clusterRetryStrategy: retryStrategy,
    // A managed service has one certificate for all nodes and gives them as names: those must not become addresses.
    dnsLookup: (address, callback) => callback(null, address),
    redisOptions: {
      ...connectionOf(options),
      ...(username === '' ? {} : { username: decodeURIComponent(username) }),
      ...(password === '' ? {} : { password: decodeURIComponent(password) }),
      ...(protocol === 'rediss:' ? { tls: options.ca ? { ca: options.ca } : {} } : {}),
    },
  });
  // The types differ in how a connection is doubled only; who doubles one looks which it is.
  return cluster as unknown as Redis;
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
