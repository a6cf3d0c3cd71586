import { ProductError, WebhookSecret } from '@lorasmith/contracts';
import type { HttpApp } from '@lorasmith/service-kit';
import { answer, errorAnswers } from '../openapi/answers.js';
import { secretOfOwner } from './signature.js';
import type { WebhookConfig } from './webhook-config.js';

export async function webhookRoutes(app: HttpApp, { webhooks }: { webhooks: WebhookConfig }): Promise<void> {
  app.get(
    '/webhook-secret',
    {
      schema: {
        operationId: 'getWebhookSecret',
        summary: 'The secret with which the webhooks of your jobs are signed',
        tags: ['jobs'],
        response: { 200: answer("The key's secret.", WebhookSecret), ...errorAnswers(404) },
      },
    },
    async ({ caller }) => {
      if (webhooks.secret === null) {
        throw new ProductError('not_found', 'This service sends no webhooks: its operator has to set WEBHOOK_SECRET.');
      }
      return { object: 'webhook_secret' as const, secret: secretOfOwner(webhooks.secret, caller.owner) };
    },
  );
}
