import type { JobId, Owner } from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import type { JobKeys } from '../keys.js';
import { luaScript } from '../redis/lua-script.js';

const reservedScript = luaScript(import.meta.url, './reserved-bytes.lua');

/** The sizes of the adapters that unfinished jobs will produce. */
export interface AdapterBytes {
  /** The maximum size of the job's adapter; 0 if there is no job. */
  of(id: JobId): Promise<number>;
  /** The sum of the maximum sizes over the unfinished jobs: of the owner, and of all owners. */
  reserved(owner: Owner): Promise<{ own: number; total: number }>;
}

export function createAdapterBytes({ redis, keys }: { redis: Redis; keys: JobKeys }): AdapterBytes {
  return {
    of: async (id) => Number(await redis.hget(keys.job(id), 'adapter_bytes')),
    async reserved(owner) {
      const scriptKeys = { reserved_bytes: keys.reservedBytes };
      const [own, total] = (await reservedScript(redis, scriptKeys, { owner: owner ?? '' })) as [string, string];
      return { own: Number(own), total: Number(total) };
    },
  };
}
