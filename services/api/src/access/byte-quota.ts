import { randomUUID } from 'node:crypto';
import { type Owner, ProductError } from '@lorasmith/contracts';
import type { ByteReservations } from './byte-reservations.js';

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

export interface ByteQuotaOptions {
  /** The kind of stored things, in the plural: datasets, adapters. */
  what: string;
  /** Null: only stored bytes count, not uploads in progress. */
  reservations: ByteReservations | null;
  /** Reads the stored bytes. Called for each check, because only the store knows them. */
  stored: (owner: Owner) => Promise<StoredBytes>;
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

/** Bytes are reserved in steps of this size when the sender does not declare a length. */
const STEP_BYTES = 64 * 1024 * 1024;

const DELETE = 'Delete some that you no longer need first.';

export function createByteQuota({ what, reservations, stored }: ByteQuotaOptions): ByteQuota {
  return {
    begin(owner, limits) {
      const upload = randomUUID();
      const pools = [`${what}:${owner ?? 'none'}`, `${what}:all`];
      /** Number of things when the store was last read. */
      let things: Amount = { own: 0, total: 0 };
      /** Sets the reservation of this upload. @returns the sum of all reservations */
      const setReservation = async (bytes: number): Promise<Amount> => {
        if (reservations === null) return { own: bytes, total: bytes };
        const [own = 0, total = 0] = await reservations.reserve(pools, upload, bytes).catch((error: unknown) => {
          // Without a key there is no quota of an owner, so uploads work without Redis.
          if (owner === null && isRedisUnavailable(error)) return [bytes, bytes];
          throw error;
        });
        return { own, total };
      };
      const reserve = async (bytes: number) => {
        // Reserve first, then read the store, so that any other upload counts as reserved or as stored.
        const reserved = await setReservation(bytes);
        const used = await stored(owner);
        if (used.own + reserved.own > limits.own) throw quotaExceeded(what, used.own, limits.own);
        if (used.total + reserved.total > limits.total) throw storageFull(what, limits.total);
        things = used.things;
      };
      return {
        async freeBytes() {
          const reserved = await setReservation(0);
          const used = await stored(owner);
          things = used.things;
          const left = (pool: keyof Amount) => Math.max(0, limits[pool] - used[pool] - reserved[pool]);
          return { own: left('own'), total: left('total') };
        },
        reserve,
        async *metered(chunks, declaredBytes) {
          let reserved = declaredBytes ?? 0;
          if (reserved > 0) await reserve(reserved);
          let received = 0;
          for await (const chunk of chunks) {
            received += chunk.length;
            if (received > reserved) {
              reserved = received + Math.min(received, STEP_BYTES);
              await reserve(reserved).catch(async () => {
                // The quota may still allow the received bytes, if not a complete step.
                reserved = received;
                await reserve(reserved);
              });
            }
            yield chunk;
          }
        },
        checkMore(added) {
          const { own, total } = limits.things;
          if (things.own + added > own) {
            throw new ProductError(
              'quota_exceeded',
              `This key has ${things.own} ${what}, and its limit is ${own}. ${DELETE}`,
            );
          }
          if (things.total + added > total) {
            throw new ProductError(
              'storage_full',
              `The service stores ${things.total} ${what}, and its limit is ${total}. ${DELETE}`,
            );
          }
        },
        end: async () => reservations?.release(pools, upload),
      };
    },
  };
}

function isRedisUnavailable(error: unknown): boolean {
  return error instanceof ProductError && error.code === 'redis_unavailable';
}

function quotaExceeded(what: string, used: number, limit: number): ProductError {
  const message = `This exceeds the key's quota of ${limit} bytes of ${what}; ${used} are used or reserved. First delete some, or wait for jobs to end.`;
  return new ProductError('quota_exceeded', message);
}

function storageFull(what: string, limit: number): ProductError {
  return new ProductError('storage_full', `This exceeds the service's limit of ${limit} bytes of ${what}.`);
}
