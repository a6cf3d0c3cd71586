import { Cluster, Redis } from 'ioredis';
import type { Logger } from 'pino';

export interface RedisConnectionOptions {
  /** `redis://[user[:password]@]host[:port][/db]`; `rediss://` for TLS; `unix://` for a socket. */
  url: string;
  /** Certificates to trust, in PEM format. @defaultValue Node's own */
  ca?: string | null;
  /** Whether `url` is a node of a cluster. @defaultValue false */
  cluster?: boolean;
  /**
   * Behaviour of a command while Redis is unavailable. `fail-fast`: it fails at once, or once Redis has been silent for 5 s;
   * for services that answer requests. `wait`: it waits until Redis is available; for workers, as BullMQ requires.
   */
  whenUnavailable: 'fail-fast' | 'wait';
  /** Shown in Redis' CLIENT LIST. */
  name: string;
  logger: Logger;
}

const CONNECT_TIMEOUT_MS = 2_000;
/**
 * A connection that owes replies and brings none for this time is closed. Not a limit for each command: a command also waits
 * for the replies before it, and for this process to read them, and then nothing is wrong with Redis.
 */
const SILENCE_MS = 5_000;
const RECONNECT_MAX_MS = 2_000;

/** Connects to Redis, reconnects automatically, and logs both. Close it with `quit()` or `disconnect()`. */
export function connectRedis(options: RedisConnectionOptions): Redis {
  const { logger } = options;
  const redis = options.cluster
    ? clusterOf(options)
    : new Redis(options.url, { ...connectionOf(options), ...reconnecting(options) });
  let unavailable = false;
  // Logged once per lost connection, not for every attempt to reconnect.
  redis.on('error', (error: Error) => {
    if (!unavailable) logger.error({ err: error }, 'Redis cannot be reached');
    unavailable = true;
  });
  redis.on('ready', () => {
    if (unavailable) logger.info('Redis is back');
    unavailable = false;
  });
  return redis;
}

function connectionOf({ ca, whenUnavailable, name }: RedisConnectionOptions) {
  return {
    connectionName: name,
    connectTimeout: CONNECT_TIMEOUT_MS,
    ...(ca ? { tls: { ca } } : {}),
    ...(whenUnavailable === 'fail-fast'
      ? { autoResendUnfulfilledCommands: false, maxRetriesPerRequest: 0, socketTimeout: SILENCE_MS }
      : { maxRetriesPerRequest: null }),
  };
}

function reconnecting({ whenUnavailable }: RedisConnectionOptions) {
  return { retryStrategy: reconnectDelayMs, ...(whenUnavailable === 'fail-fast' ? { enableOfflineQueue: false } : {}) };
}

function reconnectDelayMs(attempt: number): number {
  return Math.min(50 * 2 ** Math.min(attempt, 10), RECONNECT_MAX_MS);
}

/** Accepts the same commands as a single Redis, provided that all keys of a command are on one shard. */
function clusterOf(options: RedisConnectionOptions): Redis {
  const { hostname, port, username, password, protocol } = new URL(options.url);
  const host = hostname.replace(/^\[|\]$/g, '');
  const { retryStrategy, ...queueing } = reconnecting(options);
  const cluster = new Cluster([{ host, port: Number(port || 6379) }], {
    ...queueing,
    clusterRetryStrategy: retryStrategy,
    // A managed service has one certificate for all nodes, by name, so names must not be resolved to addresses here.
    dnsLookup: (address, callback) => callback(null, address),
    redisOptions: {
      ...connectionOf(options),
      ...(username === '' ? {} : { username: decodeURIComponent(username) }),
      ...(password === '' ? {} : { password: decodeURIComponent(password) }),
      ...(protocol === 'rediss:' ? { tls: options.ca ? { ca: options.ca } : {} } : {}),
    },
  });
  // The types differ only in `duplicate`, and its callers check which one they have.
  return cluster as unknown as Redis;
}

/** Waits until Redis accepts commands. @returns false if it did not within `timeoutMs` */
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
