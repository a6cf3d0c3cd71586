import { graderWebhookOf, type JobRequest, ProductError } from '@lorasmith/contracts';
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

/** @throws ProductError `invalid_job` for a job of which a webhook cannot be sent: that of its end, or that of its grader */
export function checkWebhooksOf(
  { webhook, objective }: Pick<JobRequest, 'webhook' | 'objective'>,
  { secret, allowPrivate }: WebhookConfig,
): void {
  const ofGrader = objective?.grader === undefined ? null : graderWebhookOf(objective.grader);
  if (webhook == null && ofGrader === null) return;
  if (secret === null) {
    const [param, instead] =
      webhook == null ? ['objective.grader', 'Use another grader.'] : ['webhook', 'Leave webhook out.'];
    const message = `This service sends no webhooks: its operator has to set WEBHOOK_SECRET. ${instead}`;
    throw new ProductError('invalid_job', message, { param });
  }
  if (webhook != null) checkWebhookUrl(webhook.url, { allowPrivate });
  if (ofGrader !== null) checkWebhookUrl(ofGrader.url, { allowPrivate, param: 'objective.grader.url' });
}

function wrong(param: string, what: string): ProductError {
  return new ProductError('invalid_configuration', `The environment is invalid:\n  ${param} ${what}`, { param });
}
