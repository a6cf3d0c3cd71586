import { readFileSync } from 'node:fs';
import { ProductError } from '@lorasmith/contracts';
import { Cluster, Redis } from 'ioredis';
import type { Logger } from 'pino';
import { Type } from 'typebox';
import { type Config, redisPrefix, redisUrl, type Setting, setting } from './settings.js';

export interface RedisConnectionOptions {
  /** `redis://[user[:password]@]host[:port][/db]`; `rediss://` for TLS; `unix://` for a socket. */
  url: string;
  /** Certificates to trust, in PEM format. @defaultValue Node's own */
  ca?: string | null;
  /** True if `url` is a node of a cluster. @defaultValue false */
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

/** The content of a file of certificates, or null when none is set. */
function certificates(variable: string, description: string): Setting<string | null> {
  const schema = Type.String({ maxLength: 4096 });
  const file = setting({ variable, schema, fallback: '', example: '/etc/lorasmith/redis-ca.pem', description });
  return {
    ...file,
    parse(text) {
      if (text === '') return { value: null };
      try {
        const content = readFileSync(text, 'utf8');
        if (content.includes('-----BEGIN CERTIFICATE-----')) return { value: content };
        return { fault: 'is not a file of certificates in PEM format' };
      } catch (error) {
        return { fault: `cannot be read (${(error as NodeJS.ErrnoException).code})` };
      }
    },
  };
}

/** The settings of Redis; the same for api and workers. */
export const redisSettings = {
  url: redisUrl,
  prefix: redisPrefix,
  ca: certificates(
    'REDIS_CA_FILE',
    "Certificates to trust for a Redis at `rediss://`, in PEM format, instead of Node's own list.",
  ),
  cluster: setting({
    variable: 'REDIS_CLUSTER',
    schema: Type.Boolean(),
    fallback: 'false',
    example: 'true',
    description:
      '`true`: `REDIS_URL` is a node of a Redis Cluster with several shards. `REDIS_PREFIX` must then have a ' +
      'hash tag, such as `{lorasmith}:`, which keeps all keys on one shard.',
  }),
};

/** Checks the settings against each other. @throws ProductError `invalid_configuration` */
export function checkRedisSettings({ url, prefix, ca, cluster }: Config<typeof redisSettings>): void {
  const fault =
    cluster && !/\{[^{}]+\}/.test(prefix)
      ? ['REDIS_PREFIX', 'has no hash tag, which REDIS_CLUSTER=true needs; for instance REDIS_PREFIX={lorasmith}:']
      : ca !== null && !url.startsWith('rediss://')
        ? ['REDIS_CA_FILE', 'needs an encrypted connection: REDIS_URL must begin with rediss://']
        : cluster && url.startsWith('unix://')
          ? ['REDIS_URL', 'is a socket of this host, which a cluster cannot be']
          : null;
  if (fault === null) return;
  const [param = '', what] = fault;
  throw new ProductError('invalid_configuration', `The environment is invalid:\n  ${param} ${what}`, { param });
}

type Askable = Pick<Redis, 'info' | 'config'>;

/** Findings about the durability of Redis; each message says what to do. */
export interface RedisDurability {
  /** A message if Redis would evict jobs; otherwise null. */
  evicting: string | null;
  warnings: string[];
}

/**
 * Asks Redis whether it evicts keys and whether it persists them. It uses INFO, which managed services answer; CONFIG,
 * which they often disable, is needed only for snapshots.
 */
export async function redisDurability(redis: Askable): Promise<RedisDurability> {
  const memory = await redis.info('memory');
  const persistence = await redis.info('persistence');
  const found: RedisDurability = { evicting: null, warnings: [] };

  const policy = infoValue(memory, 'maxmemory_policy');
  const limit = Number(infoValue(memory, 'maxmemory') ?? 0);
  const fix =
    'Set maxmemory-policy to noeviction (redis-cli CONFIG SET maxmemory-policy noeviction, and in redis.conf)';
  if (policy === null) {
    found.warnings.push(`Redis does not report whether it evicts keys when it is full, which would lose jobs. ${fix}`);
  } else if (policy !== 'noeviction' && limit > 0) {
    found.evicting = `REDIS_URL: this Redis evicts keys when it is full (maxmemory-policy ${policy}), and jobs with them. ${fix}.`;
  } else if (policy !== 'noeviction') {
    found.warnings.push(`Redis would evict keys, and jobs with them, once maxmemory is set (${policy}). ${fix}`);
  }
  if (infoValue(persistence, 'aof_enabled') !== '1') found.warnings.push(await withoutAppendOnlyFile(redis));
  return found;
}

async function withoutAppendOnlyFile(redis: Askable): Promise<string> {
  const fix = 'Set appendonly to yes';
  let save: string | undefined;
  try {
    [, save] = (await redis.config('GET', 'save')) as string[];
  } catch {
    return `Redis has no append-only file, and does not report whether it makes snapshots: check that your service persists every write. ${fix}`;
  }
  if (save === '') return `Redis persists nothing: a restart loses all jobs and their events. ${fix}`;
  return `Redis makes snapshots only (save ${save}): a crash loses the jobs since the last one. ${fix}`;
}

function infoValue(info: string, name: string): string | null {
  return new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1] ?? null;
}

export interface WatchRedisDurabilityOptions {
  redis: Askable & Pick<Redis, 'status' | 'on'>;
  logger: Logger;
  /** Called at most once, if the first Redis that answers evicts keys. */
  onEvicting: (message: string) => void;
}

/**
 * Checks as soon as Redis is available, which may be long after the start, and again after every reconnect, which may reach
 * another Redis. A later finding does not end a running service; it is only logged.
 */
export function watchRedisDurability({ redis, logger, onEvicting }: WatchRedisDurabilityOptions): void {
  let isFirst = true;
  const ask = async () => {
    try {
      const { evicting, warnings } = await redisDurability(redis);
      for (const warning of warnings) logger.warn(warning);
      if (evicting !== null && isFirst) onEvicting(evicting);
      else if (evicting !== null) logger.error(evicting);
      isFirst = false;
    } catch (error) {
      // Redis is unavailable again, or disables even INFO.
      logger.warn({ err: error }, 'whether Redis evicts and persists could not be checked');
    }
  };
  redis.on('ready', () => void ask());
  if (redis.status === 'ready') void ask();
}
