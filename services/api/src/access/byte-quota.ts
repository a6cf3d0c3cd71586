import { randomUUID } from 'node:crypto';
import { type Owner, ProductError } from '@lorasmith/contracts';
import type { ByteHolds } from './byte-holds.js';

/** An amount, or a limit. */
export interface Amount {
  /** Of one owner. */
  own: number;
  /** Of all owners together. */
  total: number;
}

/** Stored bytes. */
export interface StoredBytes extends Amount {
  /** Number of stored things. */
  things: Amount;
}

export interface ByteQuotaOptions {
  /** What the bytes are of, in the plural: datasets, adapters. */
  what: string;
  /** Null: only stored bytes count, not uploads in progress. */
  holds: ByteHolds | null;
  /** Called each time, because only the store knows. */
  stored: (owner: Owner) => Promise<StoredBytes>;
}

export interface ByteLimits extends Amount {
  /** Number of things. */
  things: Amount;
}

/** Enforces limits on stored bytes. */
export interface ByteQuota {
  /** Starts to meter an upload. Call `end` when it has been stored or has failed. */
  begin(owner: Owner, limits: ByteLimits): MeteredUpload;
}

export interface MeteredUpload {
  /**
   * Bytes that are neither stored nor reserved by other uploads. Releases what this upload reserves.
   * @throws ProductError `redis_unavailable`; errors of reading the store
   */
  freeBytes(): Promise<Amount>;
  /**
   * Reserves this many bytes in total, until `end`.
   * @throws ProductError `quota_exceeded`, `storage_full`, `redis_unavailable`; errors of reading the store
   */
  hold(bytes: number): Promise<void>;
  /**
   * Passes the chunks on while the quota allows it. If `declaredBytes` is known, they are reserved first.
   * The chunks throw ProductError `quota_exceeded`, `storage_full`, `redis_unavailable`.
   */
  metered(chunks: AsyncIterable<Buffer>, declaredBytes: number | undefined): AsyncGenerator<Buffer>;
  /**
   * Checks the number of things before a new one is stored. It counts those of the last look at the store, so concurrent
   * uploads may exceed the limit by their number.
   * @throws ProductError `quota_exceeded`, `storage_full`
   */
  checkOneMore(): void;
  end(): Promise<void>;
}

/** Bytes are reserved in steps of this size when the sender does not declare a length. */
const STEP_BYTES = 64 * 1024 * 1024;

const DELETE = 'Delete some that you no longer need first.';

export function createByteQuota({ what, holds, stored }: ByteQuotaOptions): ByteQuota {
  return {
    begin(owner, limits) {
      const upload = randomUUID();
      const pools = [`${what}:${owner ?? 'none'}`, `${what}:all`];
      /** Number of things at the last look at the store. */
      let things: Amount = { own: 0, total: 0 };
      /** The bytes that all uploads reserve, once this one reserves `bytes`. */
      const heldWith = async (bytes: number): Promise<Amount> => {
        if (holds === null) return { own: bytes, total: bytes };
        const [own = 0, total = 0] = await holds.hold(pools, upload, bytes).catch((error: unknown) => {
          // Without a key there is no own quota, and uploads then work without Redis.
          if (owner === null && isRedisUnavailable(error)) return [bytes, bytes];
          throw error;
        });
        return { own, total };
      };
      const hold = async (bytes: number) => {
        // Reserve first, then read the store: another upload is then counted as reserved or as stored.
        const held = await heldWith(bytes);
        const used = await stored(owner);
        if (used.own + held.own > limits.own) throw quotaExceeded(what, used.own, limits.own);
        if (used.total + held.total > limits.total) throw storageFull(what, limits.total);
        things = used.things;
      };
      return {
        async freeBytes() {
          const held = await heldWith(0);
          const used = await stored(owner);
          things = used.things;
          const left = (pool: keyof Amount) => Math.max(0, limits[pool] - used[pool] - held[pool]);
          return { own: left('own'), total: left('total') };
        },
        hold,
        async *metered(chunks, declaredBytes) {
          let held = declaredBytes ?? 0;
          if (held > 0) await hold(held);
          let received = 0;
          for await (const chunk of chunks) {
            received += chunk.length;
            if (received > held) {
              held = received + Math.min(received, STEP_BYTES);
              await hold(held).catch(async () => {
                // The quota may still allow what has arrived, if not a whole step.
                held = received;
                await hold(held);
              });
            }
            yield chunk;
          }
        },
        checkOneMore() {
          const { own, total } = limits.things;
          if (things.own >= own) {
            throw new ProductError(
              'quota_exceeded',
              `This key has ${things.own} ${what}, which is its limit. ${DELETE}`,
            );
          }
          if (things.total >= total) {
            throw new ProductError(
              'storage_full',
              `The service stores ${things.total} ${what}, which is its limit. ${DELETE}`,
            );
          }
        },
        end: async () => holds?.release(pools, upload),
      };
    },
  };
}

function isRedisUnavailable(error: unknown): boolean {
  return error instanceof ProductError && error.code === 'redis_unavailable';
}

function quotaExceeded(what: string, used: number, limit: number): ProductError {
  const message = `This exceeds the key's quota of ${limit} bytes of ${what}; ${used} are used or reserved. Delete some, or wait for jobs to end, first.`;
  return new ProductError('quota_exceeded', message);
}

function storageFull(what: string, limit: number): ProductError {
  return new ProductError('storage_full', `This exceeds the service's limit of ${limit} bytes of ${what}.`);
}
