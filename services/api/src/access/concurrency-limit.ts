import { type KeyId, ProductError } from '@lorasmith/contracts';

/** Maximum concurrent calls. */
export interface OpenLimits {
  /** The limit of one key. */
  own: number;
  /** The limit of all keys together. */
  total: number;
}

/** Limits the long-running calls of one kind in this process. Each holds a connection and other resources. */
export interface ConcurrencyLimit {
  /**
   * Counts a new call.
   * @returns a function that releases it; calling it again has no effect
   * @throws ProductError `quota_exceeded`, `service_unavailable`
   */
  acquire(key: KeyId | null, limits: OpenLimits): () => void;
}

/** @param what - The kind of calls, in the plural: event streams, downloads, uploads */
export function createConcurrencyLimit(what: string): ConcurrencyLimit {
  const ofKey = new Map<KeyId | null, number>();
  let total = 0;
  return {
    acquire(key, limits) {
      const own = ofKey.get(key) ?? 0;
      if (own >= limits.own) {
        throw new ProductError('quota_exceeded', `This key has ${own} open ${what}, which is its limit.`);
      }
      if (total >= limits.total) {
        throw new ProductError('service_unavailable', `The service has ${total} open ${what}, which is its limit.`);
      }
      ofKey.set(key, own + 1);
      total++;
      let isOpen = true;
      return () => {
        if (!isOpen) return;
        isOpen = false;
        total--;
        const left = (ofKey.get(key) ?? 1) - 1;
        if (left > 0) ofKey.set(key, left);
        else ofKey.delete(key);
      };
    },
  };
}
