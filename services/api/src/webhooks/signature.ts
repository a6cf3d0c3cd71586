import { createHmac } from 'node:crypto';
import type { Owner } from '@lorasmith/contracts';

/** The headers of Standard Webhooks (https://www.standardwebhooks.com). */
export interface WebhookHeaders {
  'webhook-id': string;
  'webhook-timestamp': string;
  'webhook-signature': string;
}

const PREFIX = 'whsec_';

/**
 * Signs a message.
 * @param secret - `whsec_` and base64.
 * @param seconds - Unix time of this attempt.
 */
export function signWebhook(
  secret: string,
  { id, seconds, body }: { id: string; seconds: number; body: string },
): WebhookHeaders {
  const signature = createHmac('sha256', bytesOf(secret)).update(`${id}.${seconds}.${body}`).digest('base64');
  return { 'webhook-id': id, 'webhook-timestamp': String(seconds), 'webhook-signature': `v1,${signature}` };
}

/**
 * The secret with which webhooks of a key's jobs are signed. Each key has its own, derived from that of the service, so that none can
 * forge those of another.
 * @param owner - null: jobs without a key
 */
export function secretOfOwner(secret: string, owner: Owner): string {
  const derived = createHmac('sha256', bytesOf(secret))
    .update(`webhooks of ${owner ?? ''}`)
    .digest('base64');
  return `${PREFIX}${derived}`;
}

function bytesOf(secret: string): Buffer {
  return Buffer.from(secret.slice(PREFIX.length), 'base64');
}
