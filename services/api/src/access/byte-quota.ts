import { randomUUID } from 'node:crypto';
import { type Owner, ProductError } from '@lorasmith/contracts';
import { luaScript, onRedis } from '@lorasmith/queue';
import type { Redis } from 'ioredis';

/** An amount, or a limit. */
export interface Amount {
  /** Bytes of one owner. */
  own: number;
  /** Bytes of all owners together. */
  total: number;
}

/** Stored bytes. */
export interface StoredBytes extends Amount {
  /** Number of stored things. */
  things: Amount;
}

export interface ByteLimits extends Amount {
  /** Number of things. */
  things: Amount;
}

/** Enforces limits on stored bytes. */
export interface ByteQuota {
  /** Starts to meter an upload. Call `end` once it has been stored or has failed. */
  begin(owner: Owner, limits: ByteLimits): MeteredUpload;
}

export interface MeteredUpload {
  /**
   * Bytes that are neither stored nor reserved by other uploads. Releases the reservation of this upload.
   * @throws ProductError `redis_unavailable`; errors of reading the store
   */
  freeBytes(): Promise<Amount>;
  /**
   * Reserves this many bytes in total, until `end`.
   * @throws ProductError `quota_exceeded`, `storage_full`, `redis_unavailable`; errors of reading the store
   */
  reserve(bytes: number): Promise<void>;
  /**
   * Passes the chunks on while the quota allows it. `declaredBytes`, if known, are reserved first.
   * The chunks throw ProductError `quota_exceeded`, `storage_full`, `redis_unavailable`.
   */
  metered(chunks: AsyncIterable<Buffer>, declaredBytes: number | undefined): AsyncGenerator<Buffer>;
  /**
   * Checks the number of things before so many new ones are stored. It uses the number of the last read, so concurrent uploads can
   * exceed the limit by their number.
   * @throws ProductError `quota_exceeded`, `storage_full`
   */
  checkMore(added: number): void;
  end(): Promise<void>;
}

export interface ByteQuotaOptions {
  /** The kind of stored things, in the plural: datasets, adapters. */
  what: string;
  /** Null: only stored bytes count, not uploads in progress. */
  reservations: ByteReservations | null;
  /** Reads the stored bytes. Called for each check, because only the store knows them. */
  stored: (owner: Owner) => Promise<StoredBytes>;
}

export function createByteQuota(options: ByteQuotaOptions): ByteQuota {
  return { begin: (owner, limits) => new QuotaUpload(options, owner, limits) };
}

/** Bytes are reserved in steps of this size when the sender does not declare a length. */
const STEP_BYTES = 64 * 1024 * 1024;

const DELETE = 'Delete some that you no longer need first.';

class QuotaUpload implements MeteredUpload {
  readonly #options: ByteQuotaOptions;
  readonly #owner: Owner;
  readonly #limits: ByteLimits;
  readonly #id = randomUUID();
  readonly #pools: string[];
  /** Number of things when the store was last read. */
  #things: Amount = { own: 0, total: 0 };

  constructor(options: ByteQuotaOptions, owner: Owner, limits: ByteLimits) {
    this.#options = options;
    this.#owner = owner;
    this.#limits = limits;
    this.#pools = [`${options.what}:${owner ?? 'none'}`, `${options.what}:all`];
  }

  async freeBytes(): Promise<Amount> {
    const reserved = await this.#setReservation(0);
    const used = await this.#options.stored(this.#owner);
    this.#things = used.things;
    const left = (pool: keyof Amount) => Math.max(0, this.#limits[pool] - used[pool] - reserved[pool]);
    return { own: left('own'), total: left('total') };
  }

  async reserve(bytes: number): Promise<void> {
    // Reserve first, then read the store, so that any other upload counts as reserved or as stored.
    const reserved = await this.#setReservation(bytes);
    const used = await this.#options.stored(this.#owner);
    const { what } = this.#options;
    const { own, total } = this.#limits;
    if (used.own + reserved.own > own) {
      const message = `This exceeds the key's quota of ${own} bytes of ${what}; ${used.own} are used or reserved. First delete some, or wait for jobs to end.`;
      throw new ProductError('quota_exceeded', message);
    }
    if (used.total + reserved.total > total) {
      throw new ProductError('storage_full', `This exceeds the service's limit of ${total} bytes of ${what}.`);
    }
    this.#things = used.things;
  }

  async *metered(chunks: AsyncIterable<Buffer>, declaredBytes: number | undefined): AsyncGenerator<Buffer> {
    let reserved = declaredBytes ?? 0;
    if (reserved > 0) await this.reserve(reserved);
    let received = 0;
    for await (const chunk of chunks) {
      received += chunk.length;
      if (received > reserved) {
        reserved = received + Math.min(received, STEP_BYTES);
        await this.reserve(reserved).catch(async () => {
          // The quota may still allow the received bytes, if not a complete step.
          reserved = received;
          await this.reserve(reserved);
        });
      }
      yield chunk;
    }
  }

  checkMore(added: number): void {
    const { what } = this.#options;
    const { own, total } = this.#limits.things;
    const things = this.#things;
    if (things.own + added > own) {
      const message = `This key has ${things.own} ${what}, and its limit is ${own}. ${DELETE}`;
      throw new ProductError('quota_exceeded', message);
    }
    if (things.total + added > total) {
      const message = `The service stores ${things.total} ${what}, and its limit is ${total}. ${DELETE}`;
      throw new ProductError('storage_full', message);
    }
  }

  async end(): Promise<void> {
    await this.#options.reservations?.release(this.#pools, this.#id);
  }

  /** Sets the reservation of this upload. @returns the sum of all reservations */
  async #setReservation(bytes: number): Promise<Amount> {
    const { reservations } = this.#options;
    if (reservations === null) return { own: bytes, total: bytes };
    const [own = 0, total = 0] = await reservations.reserve(this.#pools, this.#id, bytes).catch((error: unknown) => {
      // Without a key there is no quota of an owner, so uploads work without Redis.
      if (this.#owner === null && isRedisUnavailable(error)) return [bytes, bytes];
      throw error;
    });
    return { own, total };
  }
}

function isRedisUnavailable(error: unknown): boolean {
  return error instanceof ProductError && error.code === 'redis_unavailable';
}

/**
 * Bytes reserved in Redis for uploads in progress. They prevent concurrent uploads, to any api process, from together
 * exceeding a quota.
 */
export interface ByteReservations {
  /**
   * Sets the reservation of an upload in each pool.
   * @returns the sum of all reservations, by pool
   * @throws ProductError `redis_unavailable`
   */
  reserve(pools: readonly string[], upload: string, bytes: number): Promise<number[]>;
  /** Releases the reservation of an upload, if there is one. */
  release(pools: readonly string[], upload: string): Promise<void>;
}

const reserveScript = luaScript(import.meta.url, './byte-quota.lua', 'reserve_bytes');

export interface ByteReservationsOptions {
  redis: Redis;
  prefix: string;
  /** Lifetime of a reservation: longer than any upload. */
  durationMs: number;
}

export function createByteReservations({ redis, prefix, durationMs }: ByteReservationsOptions): ByteReservations {
  const keyOf = (pool: string) => `${prefix}reserved-bytes:${pool}`;
  return {
    reserve: (pools, upload, bytes) =>
      onRedis(async () => {
        const answer = await reserveScript(redis, {}, { upload, bytes, duration_ms: durationMs }, [], pools.map(keyOf));
        return (answer as string[]).map(Number);
      }),
    release: (pools, upload) =>
      onRedis(async () => {
        await Promise.all(pools.map((pool) => redis.hdel(keyOf(pool), upload)));
      }),
  };
}
