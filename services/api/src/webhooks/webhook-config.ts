import { type JobRequest, ProductError } from '@lorasmith/contracts';
import { checkWebhookUrl } from './webhook-url.js';

export interface WebhookConfig {
  /** Where the ends of all jobs are sent, besides the webhooks of the jobs; null: nowhere. */
  url: string | null;
  /** `whsec_…`; null: no webhooks. */
  secret: string | null;
  /** Whether they may go to private addresses, and over http. */
  allowPrivate: boolean;
}

export const NO_WEBHOOKS: WebhookConfig = { url: null, secret: null, allowPrivate: false };

/** Checks the settings against each other. @throws ProductError `invalid_configuration` */
export function checkWebhookConfig({ url, secret, allowPrivate }: WebhookConfig): void {
  if (url === null) return;
  if (secret === null) throw wrong('WEBHOOK_SECRET', 'must be set, since WEBHOOK_URL is');
  try {
    checkWebhookUrl(url, { allowPrivate });
  } catch (error) {
    throw wrong('WEBHOOK_URL', `cannot be used: ${(error as Error).message}`);
  }
}

/** @throws ProductError `invalid_job` for a job whose webhook cannot be sent */
export function checkWebhookOf(
  { webhook }: Pick<JobRequest, 'webhook'>,
  { secret, allowPrivate }: WebhookConfig,
): void {
  if (webhook == null) return;
  if (secret === null) {
    const message = 'This service sends no webhooks: its operator has to set WEBHOOK_SECRET. Leave webhook out.';
    throw new ProductError('invalid_job', message, { param: 'webhook' });
  }
  checkWebhookUrl(webhook.url, { allowPrivate });
}

function wrong(param: string, what: string): ProductError {
  return new ProductError('invalid_configuration', `The environment is invalid:\n  ${param} ${what}`, { param });
}
