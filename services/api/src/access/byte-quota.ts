import { randomUUID } from 'node:crypto';
import { type Owner, ProductError } from '@lorasmith/contracts';
import type { ByteHolds } from './byte-holds.js';

/** How much there is, or may be. */
export interface Amount {
  /** Of the owner. */
  own: number;
  /** Of everybody. */
  total: number;
}

/** Bytes that are stored. */
export interface StoredBytes extends Amount {
  /** In how many things. */
  things: Amount;
}

export interface ByteQuotaOptions {
  /** What is counted, in the plural: datasets, adapters. */
  what: string;
  /** Null: only what is stored already counts, not what is being uploaded. */
  holds: ByteHolds | null;
  /** Asked anew each time: the store is the truth. */
  stored: (owner: Owner) => Promise<StoredBytes>;
}

export interface ByteLimits extends Amount {
  /** How many things. */
  things: Amount;
}

/** Keeps what is stored within its limits. */
export interface ByteQuota {
  /** An upload to be metered. Call `end` when it is stored, or is not. */
  begin(owner: Owner, limits: ByteLimits): MeteredUpload;
}

export interface MeteredUpload {
  /**
   * What may be stored besides what is stored, and what others hold; what this one holds is let go.
   * @throws ProductError `redis_unavailable`, and what looking at what is stored throws
   */
  room(): Promise<Amount>;
  /**
   * Makes what it holds so many bytes in all, until `end`.
   * @throws ProductError `quota_exceeded`, `storage_full`, `redis_unavailable`, and what looking at what is stored throws
   */
  hold(bytes: number): Promise<void>;
  /**
   * Passes the chunks on while there is room for them; room for `declaredBytes`, if that is known, is looked for first.
   * The chunks throw ProductError `quota_exceeded`, `storage_full`, `redis_unavailable`.
   */
  metered(chunks: AsyncIterable<Buffer>, declaredBytes: number | undefined): AsyncGenerator<Buffer>;
  /**
   * Asked before a thing is stored that is not there already. Counted are those that were there when room was last looked
   * for: uploads under way at the same time may pass the bound by their number.
   * @throws ProductError `quota_exceeded`, `storage_full`
   */
  checkOneMore(): void;
  end(): Promise<void>;
}

/** Room is looked for in steps of so many bytes where the sender did not say how many there will be. */
const STEP_BYTES = 64 * 1024 * 1024;

const DELETE = 'Delete some that you no longer need first.';

export function createByteQuota({ what, holds, stored }: ByteQuotaOptions): ByteQuota {
  return {
    begin(owner, limits) {
      const upload = randomUUID();
      const pools = [`${what}:${owner ?? 'none'}`, `${what}:all`];
      /** Counted when room was last looked for. */
      let things: Amount = { own: 0, total: 0 };
      /** What all hold, once this one holds so much. */
      const heldWith = async (bytes: number): Promise<Amount> => {
        if (holds === null) return { own: bytes, total: bytes };
        const [own = 0, total = 0] = await holds.hold(pools, upload, bytes).catch((error: unknown) => {
          // Without a key there is no quota of its own, and uploads need no Redis otherwise.
          if (owner === null && isRedisAway(error)) return [bytes, bytes];
          throw error;
        });
        return { own, total };
      };
      const hold = async (bytes: number) => {
        // First held, then compared: what another upload holds is counted, or it has been stored and is counted there.
        const held = await heldWith(bytes);
        const used = await stored(owner);
        if (used.own + held.own > limits.own) throw quotaExceeded(what, used.own, limits.own);
        if (used.total + held.total > limits.total) throw storageFull(what, limits.total);
        things = used.things;
      };
      return {
        async room() {
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
                // There may be room for what has come, though not for a whole step.
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

function isRedisAway(error: unknown): boolean {
  return error instanceof ProductError && error.code === 'redis_unavailable';
}

function quotaExceeded(what: string, used: number, limit: number): ProductError {
  const message = `This exceeds the key's quota of ${limit} bytes of ${what}; ${used} are used or reserved. Delete some, or wait for jobs to end, first.`;
  return new ProductError('quota_exceeded', message);
}

function storageFull(what: string, limit: number): ProductError {
  return new ProductError('storage_full', `This exceeds the service's limit of ${limit} bytes of ${what}.`);
}
