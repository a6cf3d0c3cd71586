import type {
  AdapterId,
  Comparison,
  ComparisonId,
  ComparisonWebhookBody,
  Delivery,
  DeliveryId,
  DeliveryWebhookBody,
  JobFailure,
  JobId,
  JobRequest,
  JobWebhookBody,
  Owner,
  SweepId,
  SweepRequest,
  SweepWebhookBody,
  WebhookBody,
} from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import { parsed } from '../jobs/job-record.js';
import type { JobKeys } from '../keys.js';
import { DueMessages } from './due-messages.js';

/** A webhook that is to be sent. */
export interface PendingWebhook {
  /** The same for every attempt, so that a receiver recognizes it. */
  id: string;
  /** null: the address of the service's own settings. */
  url: string | null;
  /** The owner of the job, the sweep, the delivery or the comparison. */
  owner: Owner;
  body: WebhookBody;
  /** Attempts that have failed. */
  attempts: number;
}

/** A webhook as the script of an end writes it: see `events/includes/report.lua`. */
interface StoredEnd {
  owner: string;
  /** '' for the address in the settings. */
  url: string;
  ended_ms: string;
  /** The data of the event, as JSON; of a delivery and a comparison their record. */
  data: string;
}
interface StoredJobEnd extends StoredEnd {
  type: JobWebhookBody['type'];
  job: JobId;
  kind: JobWebhookBody['data']['kind'];
  /** The spec of the job, as JSON. */
  spec: string;
  /** Its name, as JSON; absent without one. */
  name?: string;
}
interface StoredSweepEnd extends StoredEnd {
  type: SweepWebhookBody['type'];
  sweep: SweepId;
  /** The request of the sweep, as JSON. */
  request: string;
}
interface StoredDeliveryEnd extends StoredEnd {
  type: DeliveryWebhookBody['type'];
  delivery: DeliveryId;
}
interface StoredComparisonEnd extends StoredEnd {
  type: ComparisonWebhookBody['type'];
  comparison: ComparisonId;
}
type StoredWebhook = StoredJobEnd | StoredSweepEnd | StoredDeliveryEnd | StoredComparisonEnd;

/**
 * The webhooks that are still to be sent. A script writes them together with the end that they report, so none is lost. A process
 * that sends one claims it for a time; if it dies, another sends it again.
 */
export class WebhookOutbox {
  readonly #redis: Redis;
  readonly #keys: JobKeys;
  readonly #due: DueMessages<StoredWebhook>;

  constructor({ redis, keys }: { redis: Redis; keys: JobKeys }) {
    this.#redis = redis;
    this.#keys = keys;
    this.#due = new DueMessages(redis, { dueTimes: keys.webhooksDue, messages: keys.webhookMessages });
  }

  /** The next webhook that is due, claimed for `leaseMs`; null: none is. */
  async claim(leaseMs: number): Promise<PendingWebhook | null> {
    const claimed = await this.#due.claim(leaseMs);
    if (claimed === null) return null;
    const { id, message, attempts } = claimed;
    const { url, owner } = message;
    return {
      id,
      url: url === '' ? null : url,
      owner: owner === '' ? null : owner,
      body: bodyOf(message),
      attempts,
    };
  }

  /** It was delivered, or is given up. */
  async remove(id: string): Promise<void> {
    await this.#due.remove(id);
  }

  /** Its attempt failed: it is due again after `delayMs`. */
  async postpone(id: string, delayMs: number): Promise<void> {
    await this.#due.postpone(id, delayMs);
  }

  /** Decides if the ends of all jobs and sweeps are sent to the address in the settings of the service. */
  async sendAll(wanted: boolean): Promise<void> {
    if (wanted) await this.#redis.set(this.#keys.webhookForAll, '1');
    else await this.#redis.del(this.#keys.webhookForAll);
  }

  /** The number of webhooks to be sent, for monitoring. */
  async count(): Promise<number> {
    return await this.#due.count();
  }
}

function bodyOf(message: StoredWebhook): WebhookBody {
  const timestamp = new Date(Number(message.ended_ms)).toISOString();
  if ('delivery' in message) {
    return { type: message.type, timestamp, data: JSON.parse(message.data) as Delivery };
  }
  if ('comparison' in message) {
    return { type: message.type, timestamp, data: JSON.parse(message.data) as Comparison };
  }
  if ('sweep' in message) {
    const { name = null, job } = JSON.parse(message.request) as SweepRequest;
    return { type: message.type, timestamp, data: { ...sweepEnd(message), ...usedBy(job), name } };
  }
  const name = parsed<string>(message.name);
  return {
    type: message.type,
    timestamp,
    data: { ...jobEnd(message), ...usedBy(JSON.parse(message.spec) as JobRequest), name },
  };
}

function usedBy({ base_model, dataset, metadata = {} }: JobRequest) {
  return { base_model, dataset, metadata };
}

function jobEnd({ type, job, kind, data }: StoredJobEnd) {
  const { adapter = null, error = null } = JSON.parse(data) as { adapter?: AdapterId; error?: JobFailure };
  return { id: job, object: 'job' as const, kind, status: statusOf(type), adapter, error };
}

function sweepEnd({ type, sweep, data }: StoredSweepEnd) {
  type Best = { best?: JobId; adapter?: AdapterId | null; metric?: number };
  const { best = null, adapter = null, metric = null } = JSON.parse(data) as Best;
  return { id: sweep, object: 'sweep' as const, status: statusOf(type), best, adapter, metric };
}

/** The type of a webhook ends in it. */
function statusOf(type: WebhookBody['type']) {
  return type.slice(type.indexOf('.') + 1) as 'succeeded' | 'failed' | 'cancelled';
}
