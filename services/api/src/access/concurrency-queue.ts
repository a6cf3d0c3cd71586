import { type KeyId, ProductError } from '@lorasmith/contracts';
import { createConcurrencyLimit, type OpenLimits } from './concurrency-limit.js';

/** A {@link createConcurrencyLimit} whose calls wait, for a limited time, until fewer are open. */
export interface ConcurrencyQueue {
  /**
   * Counts a new call, once there is a place for it. Keys take turns; calls of one key get their places in the order in which they came.
   *
   * @param signal - Ends the waiting.
   * @returns a function that releases it
   * @throws ProductError `quota_exceeded`, `service_unavailable`, after the wait or where too many wait; the reason of `signal`
   */
  enter(key: KeyId | null, limits: OpenLimits, signal: AbortSignal): Promise<() => void>;
}

export interface ConcurrencyQueueOptions {
  /** The kind of calls, in the plural. */
  what: string;
  /** Longest wait; null: as long as it takes. */
  waitMs: number | null;
  /** Calls that may wait, where nothing else limits them. @defaultValue {@link turnLimits} */
  waiting?: OpenLimits;
}

interface Waiting {
  key: KeyId | null;
  limits: OpenLimits;
  admit: (release: () => void) => void;
}

/** Waiting calls. Each holds its connection and its body. */
const MAX_WAITING: OpenLimits = { own: 64, total: 256 };
/** Limits, for docs/limits.md. */
export const turnLimits = {
  ofKey: { value: MAX_WAITING.own, unit: 'requests', beyond: '429 `rate_limit_exceeded`' },
  inAll: { value: MAX_WAITING.total, unit: 'requests', beyond: '429 `rate_limit_exceeded`, or 503' },
};
/** Weight of the newest call in the mean duration. */
const NEWEST = 0.2;

/** So many places, of which one key leaves one to the others, where there are several. Without keys, nobody is another. */
export function placesOf(key: KeyId | null, total: number): OpenLimits {
  return { own: key === null ? total : Math.max(1, total - 1), total };
}

export function createConcurrencyQueue({
  what,
  waitMs,
  waiting = MAX_WAITING,
}: ConcurrencyQueueOptions): ConcurrencyQueue {
  const open = createConcurrencyLimit(what);
  const queue = new Set<Waiting>();
  let meanMs = 0;

  const waitingOf = (key: KeyId | null) => {
    let count = 0;
    for (const one of queue) if (one.key === key) count++;
    return count;
  };
  const opened = (release: () => void) => {
    const begin = performance.now();
    let isOpen = true;
    return () => {
      if (!isOpen) return;
      isOpen = false;
      const ms = performance.now() - begin;
      meanMs = meanMs === 0 ? ms : NEWEST * ms + (1 - NEWEST) * meanMs;
      release();
      admitNext();
    };
  };
  const admitNext = () => {
    for (const one of queue) {
      const release = open.tryAcquire(one.key, one.limits);
      if (release instanceof ProductError) continue;
      one.admit(opened(release));
      // The other calls of its key wait behind those of other keys.
      for (const other of [...queue].filter(({ key }) => key === one.key)) {
        queue.delete(other);
        queue.add(other);
      }
    }
  };

  return {
    async enter(key, limits, signal) {
      signal.throwIfAborted();
      const release = open.tryAcquire(key, limits);
      if (!(release instanceof ProductError)) return opened(release);
      const refusal = () => {
        const places = Math.min(limits.own, limits.total);
        // By then the calls that wait now will have been answered, as far as the last calls show.
        const retryAfterSeconds = Math.max(1, Math.ceil(((waitingOf(key) + 1) * meanMs) / places / 1000));
        return new ProductError(release.code, release.message, { retryAfterSeconds });
      };
      if (queue.size >= waiting.total || (key !== null && waitingOf(key) >= waiting.own)) throw refusal();

      return await new Promise((resolve, reject) => {
        const leave = (error: unknown) => {
          finish();
          reject(error);
        };
        const onAbort = () => leave(signal.reason);
        const timer = waitMs === null ? undefined : setTimeout(() => leave(refusal()), waitMs);
        signal.addEventListener('abort', onAbort, { once: true });
        const one: Waiting = {
          key,
          limits,
          admit(released) {
            finish();
            resolve(released);
          },
        };
        const finish = () => {
          queue.delete(one);
          clearTimeout(timer);
          signal.removeEventListener('abort', onAbort);
        };
        queue.add(one);
      });
    },
  };
}
