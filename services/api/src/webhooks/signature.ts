import { createHmac } from 'node:crypto';
import type { Owner } from '@lorasmith/contracts';
import { PRODUCT_VERSION } from '@lorasmith/service-kit';

const PREFIX = 'whsec_';

/**
 * The headers of a message that is sent now, with the signature of Standard Webhooks (https://www.standardwebhooks.com).
 * @param secret - `whsec_` and base64.
 * @param body - JSON.
 */
export function webhookHeaders(secret: string, { id, body }: { id: string; body: string }): Record<string, string> {
  const seconds = Math.floor(Date.now() / 1000);
  const signature = createHmac('sha256', bytesOf(secret)).update(`${id}.${seconds}.${body}`).digest('base64');
  return {
    'content-type': 'application/json',
    'user-agent': `lorasmith/${PRODUCT_VERSION}`,
    'webhook-id': id,
    'webhook-timestamp': String(seconds),
    'webhook-signature': `v1,${signature}`,
  };
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
