import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import type { JobKeys } from '../keys.js';
import { luaScript } from './lua-script.js';
import { onRedis } from './redis-errors.js';

const renewScript = luaScript(import.meta.url, './lease.lua', 'renew_lease');
const endScript = luaScript(import.meta.url, './lease.lua', 'end_lease');
const restScript = luaScript(import.meta.url, './lease.lua', 'rest_lease');

/** A key that expires, and whose value is the token of the process that has the lease. */
export class Lease {
  readonly token = randomUUID();
  readonly #redis: Redis;
  readonly #key: string;
  readonly #lifetimeMs: number;
  readonly #lost = new AbortController();
  #renewal: NodeJS.Timeout | undefined;

  /** @param lifetimeMs - The time after which it expires if it is not renewed. */
  constructor(redis: Redis, key: string, lifetimeMs: number) {
    this.#redis = redis;
    this.#key = key;
    this.#lifetimeMs = lifetimeMs;
  }

  /** Takes the lease. @returns false if another process has it */
  async take(): Promise<boolean> {
    return (await this.#redis.set(this.#key, this.token, 'PX', this.#lifetimeMs, 'NX')) !== null;
  }

  /** Renews the lease until it is ended. */
  renewEvery(intervalMs: number): void {
    this.#renewal = setInterval(() => {
      renewScript(this.#redis, { lease: this.#key }, { token: this.token, lease_ms: this.#lifetimeMs }).then(
        (renewed) => renewed === 1 || this.#lost.abort(),
        // The next renewal finds out whether another process has the lease by then.
        () => {},
      );
    }, intervalMs).unref();
  }

  /** Aborted when a renewal finds that another process has the lease. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** Ends the lease, unless another process has it. */
  async end(): Promise<void> {
    clearInterval(this.#renewal);
    await endScript(this.#redis, { lease: this.#key }, { token: this.token });
  }

  /** Keeps others from taking the lease for this time, unless another process has it. */
  async rest(restMs: number): Promise<void> {
    clearInterval(this.#renewal);
    await restScript(this.#redis, { lease: this.#key }, { token: this.token, rest_ms: restMs });
  }
}

/** A worker that dies leaves its work undone for this time. */
const LEASE_MS = 60_000;

/** Work that one process does for all. */
export interface SharedWork {
  name: string;
  /** The time in which nobody does it again. */
  everyMs: number;
  /** Aborted when the process stops: what is left of the work is then due at once. */
  ending: AbortSignal;
}

export interface SharedWorkOptions {
  redis: Redis;
  keys: Pick<JobKeys, 'sharedWork'>;
  /** The lifetime of the lease if it is not renewed. @defaultValue 60 000 */
  leaseMs?: number;
}

/**
 * Does work that one process does for all, if it is due: nobody does it now, nor has for `everyMs`. All processes ask often; a key in Redis, which
 * expires, is the lease of the one that works, and then the time until it is due again.
 *
 * A process that dies leaves the work to the others when its lease has expired. One that stands still for longer than that finds its `signal`
 * aborted when it continues; until it looks, two do the work. So the work must be safe when several do it.
 *
 * @returns null if it is not due
 */
export async function whenDue<Result>(
  { redis, keys, leaseMs = LEASE_MS }: SharedWorkOptions,
  { name, everyMs, ending }: SharedWork,
  work: (signal: AbortSignal) => Promise<Result>,
): Promise<Result | null> {
  const lease = new Lease(redis, keys.sharedWork(name), leaseMs);
  if (!(await onRedis(() => lease.take()))) return null;
  lease.renewEvery(Math.min(LEASE_MS, leaseMs) / 4);
  try {
    return await work(AbortSignal.any([ending, lease.lost]));
  } finally {
    // If Redis cannot be reached, the lease expires. Work that failed is repeated when it is due again.
    await (ending.aborted ? lease.end() : lease.rest(everyMs)).catch(() => {});
  }
}
