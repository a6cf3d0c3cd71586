import { HubToken, HubTokenRequest } from '@lorasmith/contracts';
import type { HttpApp } from '@lorasmith/service-kit';
import type { HubTokens } from '../access/hub-tokens.js';
import { answer, errorAnswers, noBody } from '../openapi/answers.js';

const tags = ['deliveries'];

const putHubToken = {
  schema: {
    operationId: 'setHubToken',
    summary: 'Store the token with which adapters are delivered to the Hugging Face hub',
    description: 'In place of the one before. It is stored encrypted, and returned to nobody.',
    tags,
    body: HubTokenRequest,
    response: { 200: answer('Stored.', HubToken), ...errorAnswers(422, 503) },
  },
};

const getHubToken = {
  schema: {
    operationId: 'getHubToken',
    summary: 'When a token of the hub was stored, if there is one',
    tags,
    response: { 200: answer('Without the token.', HubToken), ...errorAnswers(503) },
  },
};

const deleteHubToken = {
  schema: {
    operationId: 'deleteHubToken',
    summary: 'Remove the token of the hub',
    tags,
    response: { 204: noBody('There is none any more.'), ...errorAnswers(503) },
  },
};

/** The routes of the token that a key's deliveries to the hub need. */
export async function hubTokenRoutes(app: HttpApp, { tokens }: { tokens: HubTokens }): Promise<void> {
  app.put('/hub-token', putHubToken, async ({ body: { token }, caller: { owner }, identity: { key }, log }) => {
    const stored = await tokens.store(token, { owner, key: key?.id ?? null });
    log.info({ owner }, 'a token of the hub was stored');
    return stored;
  });

  app.get('/hub-token', getHubToken, ({ caller }) => tokens.describe(caller.owner));

  app.delete('/hub-token', deleteHubToken, async ({ caller: { owner }, log }, reply) => {
    await tokens.remove(owner);
    log.info({ owner }, 'the token of the hub was removed');
    return await reply.code(204).send();
  });
}
