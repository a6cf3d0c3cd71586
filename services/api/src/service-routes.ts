import { KeyAnswer, type Machine, MachineList, ProductError, WebhookSecret } from '@lorasmith/contracts';
import type { JobStore } from '@lorasmith/queue';
import type { HttpApp } from '@lorasmith/service-kit';
import { answer, errorAnswers } from './openapi/answers.js';
import type { WebhookConfig } from './webhooks/webhook-config.js';
import { secretOfOwner } from './webhooks/webhook-delivery.js';

export interface ServiceRoutesOptions extends Pick<JobStore, 'machines' | 'queue'> {
  webhooks: WebhookConfig;
}

const getKey = {
  schema: {
    operationId: 'getKey',
    summary: 'The API key of the request, and its role',
    tags: ['keys'],
    response: {
      200: answer('The key. Without keys everything is allowed: the role is `admin`.', KeyAnswer),
      ...errorAnswers(),
    },
  },
};

const getWebhookSecret = {
  schema: {
    operationId: 'getWebhookSecret',
    summary: 'The secret with which the webhooks of your jobs are signed',
    tags: ['jobs'],
    response: { 200: answer("The key's secret.", WebhookSecret), ...errorAnswers(404) },
  },
};

const listMachines = {
  schema: {
    operationId: 'listMachines',
    summary: 'What the workers train on: their machines, engines and cards, and whether they run',
    tags: ['machines'],
    response: { 200: answer('The machines, by the name of their worker.', MachineList), ...errorAnswers(503) },
  },
};

/** The routes about the service itself: the rights of the client's key, the secret of its webhooks, the machines of the workers. */
export async function serviceRoutes(app: HttpApp, { machines, queue, webhooks }: ServiceRoutesOptions): Promise<void> {
  app.get('/key', getKey, async ({ identity: { key } }) => ({
    object: 'key' as const,
    id: key?.id ?? null,
    name: key?.name ?? null,
    role: key?.role ?? 'admin',
  }));

  app.get('/webhook-secret', getWebhookSecret, async ({ caller }) => {
    if (webhooks.secret === null) {
      throw new ProductError('not_found', 'This service sends no webhooks: its operator has to set WEBHOOK_SECRET.');
    }
    return { object: 'webhook_secret' as const, secret: secretOfOwner(webhooks.secret, caller.owner) };
  });

  app.get('/machines', listMachines, async (): Promise<MachineList> => {
    const [profiles, presences] = await Promise.all([machines.list(), queue.presences()]);
    const data = profiles.map((profile): Machine => {
      const presence = presences.get(profile.worker);
      return {
        ...profile,
        running:
          presence === undefined
            ? null
            : { jobs: presence.held.length, jobs_at_once: presence.slots, load: presence.load ?? null },
      };
    });
    return { data };
  });
}
