import type { Redis } from 'ioredis';
import type { Logger } from 'pino';

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
