import { type KeyId, ProductError } from '@lorasmith/contracts';
import type { FastifyReply, FastifyRequest } from 'fastify';

/** Maximum concurrent calls. */
export interface OpenLimits {
  /** The limit of one key. */
  own: number;
  /** The limit of all keys together. */
  total: number;
}

/** Limits the long-running calls of one kind in this process. Each keeps a connection and other resources. */
export class ConcurrencyLimit {
  readonly #what: string;
  readonly #openOfKey = new Map<KeyId | null, number>();
  #open = 0;

  /** @param what - The kind of calls, in the plural: event streams, downloads, uploads */
  constructor(what: string) {
    this.#what = what;
  }

  /**
   * Counts a new call.
   * @returns a function that releases it; calling it again has no effect
   * @throws ProductError `quota_exceeded`, `service_unavailable`
   */
  acquire(key: KeyId | null, limits: OpenLimits): () => void {
    const release = this.tryAcquire(key, limits);
    if (release instanceof ProductError) throw release;
    return release;
  }

  /** Counts a new call like {@link acquire}. @returns the error instead where no further call may be open */
  tryAcquire(key: KeyId | null, limits: OpenLimits): (() => void) | ProductError {
    const own = this.#openOfKey.get(key) ?? 0;
    if (own >= limits.own) {
      return new ProductError('quota_exceeded', `This key has ${own} open ${this.#what}, which is its limit.`);
    }
    if (this.#open >= limits.total) {
      const message = `The service has ${this.#open} open ${this.#what}, which is its limit.`;
      return new ProductError('service_unavailable', message);
    }
    this.#openOfKey.set(key, own + 1);
    this.#open++;
    let isOpen = true;
    return () => {
      if (!isOpen) return;
      isOpen = false;
      this.#release(key);
    };
  }

  #release(key: KeyId | null): void {
    this.#open--;
    const left = (this.#openOfKey.get(key) ?? 1) - 1;
    if (left > 0) this.#openOfKey.set(key, left);
    else this.#openOfKey.delete(key);
  }
}

/** The limits of `total` slots: each key leaves one of several slots to the other keys. Without keys, all slots are free for all. */
export function slotsOf(key: KeyId | null, total: number): OpenLimits {
  return { own: key === null ? total : Math.max(1, total - 1), total };
}

export interface ConcurrencyQueueOptions {
  /** The kind of calls, in the plural. */
  what: string;
  /** Longest wait; null: as long as it takes. */
  waitMs: number | null;
  /** Calls that may wait, where nothing else limits them. @defaultValue {@link waitingLimits} */
  waiting?: OpenLimits;
}

interface WaitingCall {
  key: KeyId | null;
  limits: OpenLimits;
  admit: (release: () => void) => void;
}

/** Waiting calls. Each keeps its connection and its body. */
const MAX_WAITING: OpenLimits = { own: 64, total: 256 };
/** Limits, for docs/limits.md. */
export const waitingLimits = {
  ofKey: { value: MAX_WAITING.own, unit: 'requests', beyond: '429 `rate_limit_exceeded`' },
  inAll: { value: MAX_WAITING.total, unit: 'requests', beyond: '429 `rate_limit_exceeded`, or 503' },
};
/** Weight of the newest call in the mean duration. */
const NEWEST = 0.2;

/** A {@link ConcurrencyLimit} whose calls wait, for a limited time, until fewer are open. */
export class ConcurrencyQueue {
  readonly #limit: ConcurrencyLimit;
  readonly #waitMs: number | null;
  readonly #maxWaiting: OpenLimits;
  readonly #waiting = new Set<WaitingCall>();
  /** The mean duration of a call. */
  #meanMs = 0;

  constructor({ what, waitMs, waiting = MAX_WAITING }: ConcurrencyQueueOptions) {
    this.#limit = new ConcurrencyLimit(what);
    this.#waitMs = waitMs;
    this.#maxWaiting = waiting;
  }

  /**
   * Counts a new call, once there is a slot for it. Keys alternate; calls of one key get their slots in the order in which they came.
   *
   * @param signal - Ends the waiting.
   * @returns a function that releases it
   * @throws ProductError `quota_exceeded`, `service_unavailable`, after the wait or where too many wait; the reason of `signal`
   */
  async enter(key: KeyId | null, limits: OpenLimits, signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    const release = this.#limit.tryAcquire(key, limits);
    if (!(release instanceof ProductError)) return this.#opened(release);
    const refusal = () => this.#refusal(release, key, limits);
    const { own, total } = this.#maxWaiting;
    if (this.#waiting.size >= total || (key !== null && this.#waitingOf(key) >= own)) throw refusal();
    return await this.#wait(key, limits, { signal, refusal });
  }

  async #wait(
    key: KeyId | null,
    limits: OpenLimits,
    { signal, refusal }: { signal: AbortSignal; refusal: () => ProductError },
  ): Promise<() => void> {
    return await new Promise((resolve, reject) => {
      const leave = (error: unknown) => {
        finish();
        reject(error);
      };
      const onAbort = () => leave(signal.reason);
      const timer = this.#waitMs === null ? undefined : setTimeout(() => leave(refusal()), this.#waitMs);
      signal.addEventListener('abort', onAbort, { once: true });
      const call: WaitingCall = {
        key,
        limits,
        admit(release) {
          finish();
          resolve(release);
        },
      };
      const finish = () => {
        this.#waiting.delete(call);
        clearTimeout(timer);
        signal.removeEventListener('abort', onAbort);
      };
      this.#waiting.add(call);
    });
  }

  /** A call that is open from now on. @returns a function that releases it */
  #opened(release: () => void): () => void {
    const begin = performance.now();
    let isOpen = true;
    return () => {
      if (!isOpen) return;
      isOpen = false;
      const ms = performance.now() - begin;
      this.#meanMs = this.#meanMs === 0 ? ms : NEWEST * ms + (1 - NEWEST) * this.#meanMs;
      release();
      this.#admitNext();
    };
  }

  #admitNext(): void {
    for (const call of this.#waiting) {
      const release = this.#limit.tryAcquire(call.key, call.limits);
      if (release instanceof ProductError) continue;
      call.admit(this.#opened(release));
      // The other calls of its key wait behind those of other keys.
      for (const other of [...this.#waiting].filter(({ key }) => key === call.key)) {
        this.#waiting.delete(other);
        this.#waiting.add(other);
      }
    }
  }

  /** The error of the limit, with the time after which the calls that wait now will have been answered, as far as the last calls show. */
  #refusal({ code, message }: ProductError, key: KeyId | null, limits: OpenLimits): ProductError {
    const slots = Math.min(limits.own, limits.total);
    const retryAfterSeconds = Math.max(1, Math.ceil(((this.#waitingOf(key) + 1) * this.#meanMs) / slots / 1000));
    return new ProductError(code, message, { retryAfterSeconds });
  }

  #waitingOf(key: KeyId | null): number {
    let count = 0;
    for (const call of this.#waiting) if (call.key === key) count++;
    return count;
  }
}

/** Ends an answer whose client stops reading: it would keep the open files and the connections forever. */
export function endWhenStalled(request: FastifyRequest, reply: FastifyReply, stallMs: number): void {
  reply.raw.setTimeout(stallMs, () => {
    request.log.info({ stall_ms: stallMs }, 'an answer was ended because its client stopped reading');
    reply.raw.destroy();
  });
}
