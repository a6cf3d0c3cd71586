import type { JobId, Owner } from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import type { JobKeys } from '../keys.js';
import { luaScript } from '../redis/lua-script.js';

/** Returns the bytes reserved for an owner ('' for none) and for all owners, as decimal text. */
const reservedScript = luaScript({
  keys: ['reserved_bytes'],
  arguments: ['owner'],
  lua: /* lua */ `
local own, total = 0, 0
for _, reserved in ipairs(redis.call('HVALS', reserved_bytes)) do
  local bytes, job_owner = string.match(reserved, '^(%d+):(.*)$')
  total = total + tonumber(bytes)
  if job_owner == owner then own = own + tonumber(bytes) end
end
return {string.format('%.0f', own), string.format('%.0f', total)}
`,
});

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
