import { randomUUID } from 'node:crypto';
import { luaScript, onRedis } from '@lorasmith/redis';
import type { Redis } from 'ioredis';
import type { JobKeys } from './keys.js';

/** A worker that dies leaves its work undone for so long. */
const LEASE_MS = 60_000;
const RENEWAL_MS = LEASE_MS / 4;

const renewScript = luaScript({
  keys: ['lease'],
  arguments: ['token', 'lease_ms'],
  lua: /* lua */ `
if redis.call('GET', lease) == token then return redis.call('PEXPIRE', lease, lease_ms) end
return 0
`,
});

/** Ends the work of this token: it is due again after `rest_ms`, or at once ('0'). */
const endScript = luaScript({
  keys: ['lease'],
  arguments: ['token', 'rest_ms'],
  lua: /* lua */ `
if redis.call('GET', lease) ~= token then return 0 end
if rest_ms == '0' then return redis.call('DEL', lease) end
redis.call('SET', lease, 'done', 'PX', rest_ms)
return 1
`,
});

/** Work that one process does for all. */
export interface SharedWork {
  name: string;
  /** How long nobody does it again. */
  everyMs: number;
  /** Aborted when the process stops: what is left of the work is then due at once. */
  ending: AbortSignal;
}

export interface SharedWorkOptions {
  redis: Redis;
  keys: Pick<JobKeys, 'sharedWork'>;
  /** How long the lease lasts without being renewed. @defaultValue 60 000 */
  leaseMs?: number;
}

/**
 * Does work that one process does for all, if it is due: nobody does it now, nor has for `everyMs`. All processes ask often; a key in Redis, which
 * expires, is the lease of the one that works, and then the time until it is due again.
 *
 * A process that dies leaves the work to the others when its lease has expired. One that stands still for longer than that finds its `signal`
 * aborted when it goes on; until it looks, two do the work. So the work must be safe when several do it.
 *
 * @returns null if it is not due
 */
export async function whenDue<Result>(
  { redis, keys, leaseMs = LEASE_MS }: SharedWorkOptions,
  { name, everyMs, ending }: SharedWork,
  work: (signal: AbortSignal) => Promise<Result>,
): Promise<Result | null> {
  const token = randomUUID();
  const lease = keys.sharedWork(name);
  if ((await onRedis(() => redis.set(lease, token, 'PX', leaseMs, 'NX'))) === null) return null;
  const lost = new AbortController();
  const renewal = setInterval(
    () => {
      renewScript(redis, { lease }, { token, lease_ms: leaseMs }).then(
        (renewed) => renewed === 1 || lost.abort(),
        // The next renewal finds out whether another has the lease by then.
        () => {},
      );
    },
    Math.min(RENEWAL_MS, leaseMs / 4),
  ).unref();
  try {
    return await work(AbortSignal.any([ending, lost.signal]));
  } finally {
    clearInterval(renewal);
    // If Redis cannot be reached, the lease expires. Work that failed is repeated when it is due again.
    await endScript(redis, { lease }, { token, rest_ms: ending.aborted ? 0 : everyMs }).catch(() => {});
  }
}
