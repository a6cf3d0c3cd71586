import type { LookupFunction } from 'node:net';
import { pause } from '@lorasmith/concurrency';
import type { JobStore, PendingWebhook } from '@lorasmith/queue';
import type { FastifyBaseLogger } from 'fastify';
import type { WebhookConfig } from './webhook-config.js';
import { postWebhook, secretOfOwner, startClaiming, webhookHeaders } from './webhook-delivery.js';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
/** The waits before each further attempt. The last one is about 27 hours after the first. */
export const DELAYS_MS: readonly number[] = [
  5 * SECOND,
  30 * SECOND,
  2 * MINUTE,
  10 * MINUTE,
  30 * MINUTE,
  HOUR,
  2 * HOUR,
  4 * HOUR,
  8 * HOUR,
  12 * HOUR,
];
/** So that the receivers of many failed attempts are not all asked at once. */
const JITTER = 0.1;
const TIMEOUT_MS = 15 * SECOND;
/** Longer than an attempt: a sender that has not reported by then has died. */
const LEASE_MS = 60 * SECOND;
const POLL_MS = SECOND;
const AT_ONCE = 8;
/** The receiver says that it wants no more. */
const GONE = 410;

export interface WebhookSenderOptions {
  outbox: JobStore['webhooks'];
  config: WebhookConfig;
  log: FastifyBaseLogger;
  /** @defaultValue that of the system */
  lookup?: LookupFunction;
  /** @defaultValue {@link DELAYS_MS} */
  delaysMs?: readonly number[];
  /** @defaultValue 1 s */
  pollMs?: number;
  /** The time for an attempt. @defaultValue 15 s */
  timeoutMs?: number;
  /** The time for which a webhook is claimed for an attempt. @defaultValue 60 s */
  leaseMs?: number;
}

/**
 * Sends the webhooks that are due. Several processes may: each webhook is claimed by one at a time. The scripts that write the ends of
 * jobs and sweeps learn whether there is an address for all of them.
 * @returns stops it; what is being sent is broken off, and sent again later
 */
export function startWebhookSender(options: WebhookSenderOptions): () => Promise<void> {
  const { outbox, config, log, lookup, delaysMs = DELAYS_MS, pollMs = POLL_MS } = options;
  const { timeoutMs = TIMEOUT_MS, leaseMs = LEASE_MS } = options;
  const over = new AbortController();
  let stopClaiming = async () => {};

  const attempt = async (webhook: PendingWebhook, signal: AbortSignal): Promise<void> => {
    const { id, body, attempts } = webhook;
    const of = { [body.data.object]: body.data.id };
    const outcome = await send(webhook, { config, lookup, timeoutMs, signal });
    // Nobody knows whether it arrived: it is sent again, with the same id.
    if (signal.aborted) return;
    if (outcome.delivered) {
      await outbox.remove(id);
      log.info({ ...of, webhook: id, status: outcome.status }, 'webhook delivered');
      return;
    }
    const delay = delaysMs[attempts];
    if (outcome.final || delay === undefined) {
      await outbox.remove(id);
      log.error({ ...of, webhook: id, why: outcome.why, attempts: attempts + 1 }, 'webhook given up');
      return;
    }
    await outbox.postpone(id, Math.round(delay * (1 + JITTER * Math.random())));
    log.warn(
      { ...of, webhook: id, why: outcome.why, retryInMs: delay },
      'webhook not delivered; it will be sent again',
    );
  };

  const start = async (): Promise<void> => {
    let isKnown = false;
    while (!over.signal.aborted && !isKnown) {
      isKnown = await outbox.sendAll(config.url !== null).then(
        () => true,
        () => false,
      );
      if (!isKnown) await pause(pollMs, over.signal);
    }
    if (config.secret === null || over.signal.aborted) return;
    stopClaiming = startClaiming({
      atOnce: AT_ONCE,
      async next(isFull, signal) {
        const claimed = isFull ? null : await outbox.claim(leaseMs).catch(() => null);
        if (claimed === null) await pause(pollMs, signal);
        return claimed;
      },
      attempt: (webhook, signal) =>
        attempt(webhook, signal).catch((error: unknown) =>
          log.warn(
            { err: error, webhook: webhook.id },
            'the state of a webhook could not be stored; it will be sent again',
          ),
        ),
    });
  };
  const starting = start();
  return async () => {
    over.abort();
    await starting;
    await stopClaiming();
  };
}

type Outcome = { delivered: true; status: number } | { delivered: false; why: string; final: boolean };

async function send(
  { id, url, owner, body }: PendingWebhook,
  {
    config,
    lookup,
    ...sending
  }: { config: WebhookConfig; lookup: LookupFunction | undefined; timeoutMs: number; signal: AbortSignal },
): Promise<Outcome> {
  const target = url ?? config.url;
  const { secret, allowPrivate } = config;
  if (target === null || secret === null) return { delivered: false, why: 'webhooks are not configured', final: true };
  const text = JSON.stringify(body);
  const headers = webhookHeaders(url === null ? secret : secretOfOwner(secret, owner), { id, body: text });
  try {
    const options = { url: target, headers, body: text, allowPrivate, ...sending };
    const { status } = await postWebhook(lookup === undefined ? options : { ...options, lookup });
    if (status >= 200 && status < 300) return { delivered: true, status };
    return { delivered: false, why: `the receiver answered ${status}`, final: status === GONE };
  } catch (error) {
    return { delivered: false, why: (error as Error).message, final: false };
  }
}
