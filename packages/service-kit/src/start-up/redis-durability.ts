import type { Redis } from 'ioredis';
import type { Logger } from 'pino';

type Askable = Pick<Redis, 'info' | 'config'>;

/** What was found out about how Redis keeps what it is given; each sentence says what to do. */
export interface RedisDurability {
  /** It would throw jobs away. */
  evicting: string | null;
  warnings: string[];
}

/**
 * Asks Redis whether it evicts and whether it persists. By INFO, which managed services answer; only whether it makes
 * snapshots takes CONFIG, which they often hide.
 */
export async function redisDurability(redis: Askable): Promise<RedisDurability> {
  const memory = await redis.info('memory');
  const persistence = await redis.info('persistence');
  const found: RedisDurability = { evicting: null, warnings: [] };

  const policy = infoValue(memory, 'maxmemory_policy');
  const limit = Number(infoValue(memory, 'maxmemory') ?? 0);
  const mend =
    'Set maxmemory-policy to noeviction (redis-cli CONFIG SET maxmemory-policy noeviction, and in redis.conf)';
  if (policy === null) {
    found.warnings.push(`Redis does not say whether it evicts keys when it is full, which would lose jobs. ${mend}`);
  } else if (policy !== 'noeviction' && limit > 0) {
    found.evicting = `REDIS_URL: this Redis evicts keys when it is full (maxmemory-policy ${policy}), and jobs with them. ${mend}.`;
  } else if (policy !== 'noeviction') {
    found.warnings.push(`Redis would evict keys, and jobs with them, once maxmemory is set (${policy}). ${mend}`);
  }
  if (infoValue(persistence, 'aof_enabled') !== '1') found.warnings.push(await withoutAppendOnlyFile(redis));
  return found;
}

async function withoutAppendOnlyFile(redis: Askable): Promise<string> {
  const mend = 'Set appendonly to yes';
  let save: string | undefined;
  try {
    [, save] = (await redis.config('GET', 'save')) as string[];
  } catch {
    return `Redis has no append-only file, and hides whether it makes snapshots: see that your service keeps every write. ${mend}`;
  }
  if (save === '') return `Redis keeps nothing on disk: when it restarts, all jobs and their events are gone. ${mend}`;
  return `Redis makes snapshots only (save ${save}): a crash loses the jobs since the last one. ${mend}`;
}

function infoValue(info: string, name: string): string | null {
  return new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1] ?? null;
}

export interface WatchRedisDurabilityOptions {
  redis: Askable & Pick<Redis, 'status' | 'on'>;
  logger: Logger;
  /** Told once, when the first Redis that answers evicts. */
  onEvicting: (message: string) => void;
}

/**
 * Asks as soon as Redis is there, which may be long after the start, and again whenever it has come back: it may be
 * another one then. A service that works already is not ended for it; the log says so each time.
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
      // It went away again, or hides even INFO.
      logger.warn({ err: error }, 'whether Redis evicts and persists could not be checked');
    }
  };
  redis.on('ready', () => void ask());
  if (redis.status === 'ready') void ask();
}
