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
  /** Counts a new call like {@link acquire}. @returns the error instead where no further call may be open */
  tryAcquire(key: KeyId | null, limits: OpenLimits): (() => void) | ProductError;
}

/** @param what - The kind of calls, in the plural: event streams, downloads, uploads */
export function createConcurrencyLimit(what: string): ConcurrencyLimit {
  const ofKey = new Map<KeyId | null, number>();
  let total = 0;
  const tryAcquire: ConcurrencyLimit['tryAcquire'] = (key, limits) => {
    const own = ofKey.get(key) ?? 0;
    if (own >= limits.own) {
      return new ProductError('quota_exceeded', `This key has ${own} open ${what}, which is its limit.`);
    }
    if (total >= limits.total) {
      return new ProductError('service_unavailable', `The service has ${total} open ${what}, which is its limit.`);
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
  };
  return {
    tryAcquire,
    acquire(key, limits) {
      const release = tryAcquire(key, limits);
      if (release instanceof ProductError) throw release;
      return release;
    },
  };
}
