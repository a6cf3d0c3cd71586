import type { JobFailure, JobId, Owner, WebhookBody, WebhookType } from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import { createDueMessages } from './due-messages.js';
import type { JobKeys } from './keys.js';

/** A webhook that is to be sent. */
export interface PendingWebhook {
  /** The same for every attempt, so that a receiver recognizes it. */
  id: string;
  /** null: the address of the service's own settings. */
  url: string | null;
  /** The owner of the job. */
  owner: Owner;
  job: JobId;
  body: WebhookBody;
  /** Attempts that have failed. */
  attempts: number;
}

/**
 * The webhooks that are still to be sent. A script writes them together with the end of their job, so none is lost. A process
 * that sends one claims it for a time; if it dies, another sends it again.
 */
export interface WebhookOutbox {
  /** The next one that is due, claimed for so long; null: none is. */
  claim(leaseMs: number): Promise<PendingWebhook | null>;
  /** It was delivered, or is given up. */
  remove(id: string): Promise<void>;
  /** Its attempt failed: it is due again after so long. */
  postpone(id: string, delayMs: number): Promise<void>;
  /** Whether the ends of all jobs are to be sent to the address in the settings of the service. */
  sendAll(wanted: boolean): Promise<void>;
  /** The number of webhooks to be sent, for monitoring. */
  count(): Promise<number>;
}

/** A webhook as the script of an end writes it: see RECORD_FUNCTIONS. */
interface StoredWebhook {
  type: WebhookType;
  job: JobId;
  kind: WebhookBody['data']['kind'];
  owner: string;
  /** '' for the address in the settings. */
  url: string;
  ended_ms: string;
  spec: Pick<WebhookBody['data'], 'base_model' | 'dataset' | 'name' | 'metadata'>;
  /** The data of the event, as JSON. */
  data: string;
}

const STATUS = { 'job.succeeded': 'succeeded', 'job.failed': 'failed', 'job.cancelled': 'cancelled' } as const;

export function createWebhookOutbox({ redis, keys }: { redis: Redis; keys: JobKeys }): WebhookOutbox {
  const due = createDueMessages<StoredWebhook>(redis, { dueTimes: keys.webhooksDue, messages: keys.webhookMessages });
  return {
    async claim(leaseMs) {
      const claimed = await due.claim(leaseMs);
      if (claimed === null) return null;
      const { id, message, attempts } = claimed;
      const { url, owner, job } = message;
      return {
        id,
        url: url === '' ? null : url,
        owner: owner === '' ? null : owner,
        job,
        body: bodyOf(message),
        attempts,
      };
    },
    remove: due.remove,
    postpone: due.postpone,
    async sendAll(wanted) {
      if (wanted) await redis.set(keys.webhookForAll, '1');
      else await redis.del(keys.webhookForAll);
    },
    count: due.count,
  };
}

function bodyOf({ type, job, kind, ended_ms: endedMs, spec, data }: StoredWebhook): WebhookBody {
  const event = JSON.parse(data) as { adapter?: string; error?: JobFailure };
  const { base_model, dataset, name, metadata } = spec;
  return {
    type,
    timestamp: new Date(Number(endedMs)).toISOString(),
    data: {
      id: job,
      object: 'job',
      kind,
      status: STATUS[type],
      base_model,
      dataset,
      name,
      metadata,
      adapter: event.adapter ?? null,
      error: event.error ?? null,
    },
  };
}
