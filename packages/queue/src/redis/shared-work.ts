import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import type { JobKeys } from '../keys.js';
import { endLeaseScript, renewLeaseScript } from './lease.js';
import { luaScript } from './lua-script.js';
import { onRedis } from './redis-errors.js';

/** A worker that dies leaves its work undone for so long. */
const LEASE_MS = 60_000;
const RENEWAL_MS = LEASE_MS / 4;

const restScript = luaScript(import.meta.url, './rest-lease.lua');

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
      renewLeaseScript(redis, { lease }, { token, lease_ms: leaseMs }).then(
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
    const end = ending.aborted
      ? endLeaseScript(redis, { lease }, { token })
      : restScript(redis, { lease }, { token, rest_ms: everyMs });
    await end.catch(() => {});
  }
}
