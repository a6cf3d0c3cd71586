import { readManifest } from '@lorasmith/artifacts';
import { pause } from '@lorasmith/concurrency';
import { type Delivery, deliveryPlace, ProductError, publicText } from '@lorasmith/contracts';
import { type ClaimedDelivery, DELIVERY_LEASE_MS, type JobStore, takenByOther } from '@lorasmith/queue';
import type { BundleStore } from '@lorasmith/storage';
import type { FastifyBaseLogger } from 'fastify';
import { CancelledError, LeftError, reportedClaim, WorkLease } from '../leased-work.js';
import { startClaiming } from '../webhooks/webhook-delivery.js';
import { type DeliveryKinds, kindOf } from './delivery-kind.js';
import type { DeliveryRequests } from './delivery-requests.js';

const AT_ONCE = 4;
const POLL_MS = 1_000;
const RENEW_MS = DELIVERY_LEASE_MS / 3;
/** The waits before each further attempt. */
export const DELIVERY_DELAYS_MS: readonly number[] = [5_000, 30_000, 120_000, 600_000];
/** The longest wait that the other side may ask for. */
const MAX_ASKED_MS = 3_600_000;
/** Errors that may go away: something cannot be reached, or a disk is full. */
const TEMPORARY = [503, 504, 507];

export interface DeliveryRunnerOptions {
  store: JobStore['deliveries'];
  requests: Pick<DeliveryRequests, 'createOfJob'>;
  adapters: Pick<BundleStore, 'has' | 'readJson'>;
  kinds: DeliveryKinds;
  log: FastifyBaseLogger;
  /** @defaultValue {@link DELIVERY_DELAYS_MS} */
  delaysMs?: readonly number[];
  /** @defaultValue 1 s */
  pollMs?: number;
  /** The time between two renewals of a lease, in which a cancel is noticed. @defaultValue 10 s */
  renewMs?: number;
}

/**
 * Makes the deliveries that are due, and creates those of jobs that have succeeded. Several processes may: each delivery is leased by one
 * at a time, and resumed by another if that one dies.
 * @returns stops it; what is under way is left to the next process
 */
export function startDeliveries(options: DeliveryRunnerOptions): () => Promise<void> {
  const { store, requests, log, pollMs = POLL_MS } = options;
  const read = async (isFull: boolean): Promise<ClaimedDelivery | null> => {
    for (const ofJob of await store.ofJobs()) {
      await requests.createOfJob(ofJob);
      log.info({ job: ofJob.job, adapter: ofJob.adapter, deliveries: ofJob.to.length }, 'deliveries of a job queued');
    }
    return isFull ? null : await store.claim();
  };
  const claim = reportedClaim(read, { log, message: 'deliveries cannot be read' });
  return startClaiming<ClaimedDelivery>({
    atOnce: AT_ONCE,
    async next(isFull, signal) {
      const claimed = await claim(isFull);
      if (claimed === null) await pause(pollMs, signal);
      return claimed;
    },
    attempt: (claimed, signal) =>
      new RunningDelivery(claimed, options, signal).run().catch((error: unknown) => {
        log.warn(
          { err: error, delivery: claimed.delivery.id },
          'the state of a delivery could not be stored; it is resumed',
        );
      }),
  });
}

/** A delivery that this process has leased. */
class RunningDelivery {
  readonly #claimed: ClaimedDelivery;
  readonly #options: DeliveryRunnerOptions;
  readonly #lease: WorkLease;
  #delivery: Delivery;

  constructor(claimed: ClaimedDelivery, options: DeliveryRunnerOptions, ending: AbortSignal) {
    this.#claimed = claimed;
    this.#options = options;
    this.#lease = new WorkLease({
      renew: () => options.store.write(claimed.delivery.id, claimed.token),
      leaseMs: DELIVERY_LEASE_MS,
      renewMs: options.renewMs ?? RENEW_MS,
      ending,
    });
    const { delivery } = claimed;
    const started_at = delivery.started_at ?? new Date().toISOString();
    this.#delivery = { ...delivery, status: 'running', started_at, next_attempt_at: null };
  }

  async run(): Promise<void> {
    try {
      await this.#attempt();
      await this.#end({ status: 'delivered', error: null });
    } catch (error) {
      await this.#failed(error);
    } finally {
      this.#lease.release();
    }
  }

  async #attempt(): Promise<void> {
    const { kinds, adapters, log } = this.#options;
    const { delivery, state, verdict } = this.#claimed;
    const { to, adapter, id } = delivery;
    if (verdict === 'taken') throw takenByOther(to);
    if (verdict === 'overtaken') {
      throw new ProductError('delivery_overtaken', 'A later delivery to the same place was delivered before this one.');
    }
    if (delivery.attempts > this.#delays.length + 1) {
      throw new ProductError(
        'internal_error',
        'It was interrupted in each of its attempts. The log of the api has more.',
      );
    }
    await this.#write({ event: 'delivery-started' });
    const manifest = await readManifest(adapters, adapter);
    const kind = kindOf(kinds, to);
    kind.check(to);
    kind.checkAdapter(to, manifest);
    log.info({ delivery: id, adapter, place: deliveryPlace(to), attempt: delivery.attempts }, 'delivering');
    await kind.deliver(to, {
      manifest,
      state: state === null ? null : (JSON.parse(state) as unknown),
      keep: (kept) => this.#write({ state: JSON.stringify(kept) }),
      report: (facts) => {
        this.#delivery = { ...this.#delivery, ...facts };
      },
      signal: this.#lease.signal,
      log,
    });
  }

  async #failed(error: unknown): Promise<void> {
    const { store, log } = this.#options;
    const { token } = this.#claimed;
    const { id, attempts } = this.#delivery;
    const { reason } = this.#lease.signal;
    // What is broken off has an error of its own; one of ours says what could not be restored.
    const isBrokenOff = reason instanceof CancelledError && !(error instanceof ProductError);
    if (isBrokenOff) return await this.#end({ status: 'cancelled', error: null });
    if (error instanceof LeftError || reason instanceof LeftError) {
      const queued = { ...this.#delivery, status: 'queued' as const, attempts: attempts - 1 };
      return await store.postpone(queued, token, { delayMs: 0, counts: false });
    }
    const failure = failureOf(error);
    const ownMs = this.#delays[attempts - 1];
    const isTemporary = error instanceof ProductError && TEMPORARY.includes(error.status);
    if (!isTemporary || ownMs === undefined || reason !== undefined) {
      log.warn({ err: error, delivery: id }, 'a delivery failed');
      return await this.#end({ status: 'failed', error: failure });
    }
    const askedMs = Math.min((error.retryAfterSeconds ?? 0) * 1000, MAX_ASKED_MS);
    const delayMs = Math.max(ownMs, askedMs);
    log.warn({ err: error, delivery: id, retryInMs: delayMs }, 'a delivery is tried again');
    const next_attempt_at = new Date(Date.now() + delayMs).toISOString();
    const queued = { ...this.#delivery, status: 'queued' as const, error: failure, next_attempt_at };
    await store.postpone(queued, token, { delayMs, counts: true });
  }

  async #end(end: Pick<Delivery, 'status' | 'error'>): Promise<void> {
    const { store, log } = this.#options;
    const { id, adapter } = this.#delivery;
    const outcome = await store.end(this.#delivery, this.#claimed.token, end);
    if (outcome === 'done') log.info({ delivery: id, adapter, code: end.error?.code }, `the delivery is ${end.status}`);
  }

  /** Writes the record, and its event or what a later attempt must know. @throws the reason to stop */
  async #write(more: { event: 'delivery-started' } | { state: string }): Promise<void> {
    const { store } = this.#options;
    this.#lease.heed(await store.write(this.#delivery.id, this.#claimed.token, { delivery: this.#delivery, ...more }));
    this.#lease.signal.throwIfAborted();
  }

  get #delays(): readonly number[] {
    return this.#options.delaysMs ?? DELIVERY_DELAYS_MS;
  }
}

function failureOf(error: unknown): NonNullable<Delivery['error']> {
  if (error instanceof ProductError) return { code: error.code, message: publicText(error).message };
  return { code: 'internal_error', message: 'Internal error. The log of the api has it.' };
}
