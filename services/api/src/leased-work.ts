import type { FastifyBaseLogger } from 'fastify';

/** This process ends, or another one has the work. It is begun again there. */
export class LeftError extends Error {}

/** The owner has cancelled the work. */
export class CancelledError extends Error {}

/** The answer of a store to a write under a lease. `cancel`: it is written, and the work is to stop. `lost`: another process has the lease. */
export type LeaseOutcome = 'done' | 'cancel' | 'lost';

export interface WorkLeaseOptions {
  /** Renews the lease. */
  renew(): Promise<LeaseOutcome>;
  /** The time after which another process takes a lease that was not renewed. */
  leaseMs: number;
  /** The time between two renewals, in which a cancel is noticed. */
  renewMs: number;
  /** Aborted when this process ends. */
  ending: AbortSignal;
}

/** The lease of this process on a record that it works on: renewed until it is released. */
export class WorkLease {
  readonly #options: WorkLeaseOptions;
  readonly #stopped = new AbortController();
  readonly #renewal: NodeJS.Timeout;
  #renewedAt = performance.now();

  constructor(options: WorkLeaseOptions) {
    this.#options = options;
    const { ending, renewMs } = options;
    ending.addEventListener('abort', this.#leave, { once: true });
    // It was taken while this process began to end.
    if (ending.aborted) this.#leave();
    this.#renewal = setInterval(() => void this.#renew(), renewMs).unref();
  }

  /** Aborted with a {@link LeftError} or a {@link CancelledError}, when the work is to stop. */
  get signal(): AbortSignal {
    return this.#stopped.signal;
  }

  /** Stops the work if a write has found that it is to stop. */
  heed(outcome: LeaseOutcome): void {
    if (outcome === 'lost') this.#stopped.abort(new LeftError('another process has the work'));
    else this.#renewedAt = performance.now();
    if (outcome === 'cancel') this.#stopped.abort(new CancelledError('cancelled'));
  }

  /** Ends the renewals. */
  release(): void {
    clearInterval(this.#renewal);
    this.#options.ending.removeEventListener('abort', this.#leave);
  }

  readonly #leave = () => this.#stopped.abort(new LeftError('this process ends'));

  async #renew(): Promise<void> {
    const outcome = await this.#options.renew().catch(() => null);
    if (outcome !== null) this.heed(outcome);
    else if (performance.now() - this.#renewedAt > this.#options.leaseMs) this.heed('lost');
  }
}

/** A claim that finds nothing where it fails, and reports the first of several failures. @param message - of the report */
export function reportedClaim<Work, Args extends unknown[]>(
  claim: (...args: Args) => Promise<Work | null>,
  { log, message }: { log: FastifyBaseLogger; message: string },
): (...args: Args) => Promise<Work | null> {
  let isReported = false;
  return async (...args) => {
    try {
      const work = await claim(...args);
      isReported = false;
      return work;
    } catch (error) {
      if (!isReported) log.warn({ err: error }, message);
      isReported = true;
      return null;
    }
  };
}
