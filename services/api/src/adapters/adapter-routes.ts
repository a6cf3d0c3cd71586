import type { AliasStore } from '@lorasmith/artifacts';
import { Adapter, AdapterManifest, AdapterPage, AdapterQuery, closed, DetailsChange } from '@lorasmith/contracts';
import type { HttpApp } from '@lorasmith/service-kit';
import { Type } from 'typebox';
import { answer, errorAnswers, noBody } from '../openapi/answers.js';
import { AdapterIdParam, acceptNames, createForwarding, type ForwardingOptions } from './forward-request.js';
import { type AdapterDeletionOptions, beginDeletionIfAllowed } from './registry-client.js';

/** The registry answers these calls at once. */
const ANSWER_TIMEOUT_MS = 60_000;
const CONNECTIONS = 128;

const tags = ['adapters'];
const params = Type.Object({ id: AdapterIdParam }, closed);

const listAdapters = {
  schema: {
    operationId: 'listAdapters',
    summary: 'Adapters, newest first unless sorted otherwise, with the number of those that match',
    tags,
    querystring: AdapterQuery,
    response: { 200: answer('One page.', AdapterPage), ...errorAnswers(400, 503) },
  },
};

const changeAdapter = {
  schema: {
    operationId: 'changeAdapter',
    summary: 'Change the name, tags or note of an adapter; its files never change',
    tags,
    params,
    body: DetailsChange,
    response: { 200: answer('The changed adapter.', Adapter), ...errorAnswers(404, 422, 503, 507) },
  },
};

const getAdapterRecord = {
  schema: {
    operationId: 'getAdapterRecord',
    summary: 'One adapter as the list has it, with its present name, tags and note',
    tags,
    params,
    response: { 200: answer('The adapter.', Adapter), ...errorAnswers(404, 422, 503) },
  },
};

const getAdapterManifest = {
  schema: {
    operationId: 'getAdapterManifest',
    summary: 'The manifest of an adapter: what it is and how it was made',
    tags,
    params,
    response: { 200: answer('The manifest.', AdapterManifest), ...errorAnswers(404, 503) },
  },
};

const deleteAdapter = {
  schema: {
    operationId: 'deleteAdapter',
    summary: 'Delete an adapter',
    tags,
    params,
    response: { 204: noBody('Deleted.'), ...errorAnswers(404, 409, 503) },
  },
};

export interface AdapterRoutesOptions extends ForwardingOptions, AdapterDeletionOptions {
  aliases: Pick<AliasStore, 'adapterOf' | 'pointingTo'>;
}

/**
 * The fast routes under `/adapters`, which transfer no adapter. They have their own connections to the registry, and their
 * answers are buffered, so that neither downloads nor slow clients block them.
 */
export async function adapterRoutes(app: HttpApp, options: AdapterRoutesOptions): Promise<void> {
  acceptNames(app, options.aliases);
  const forward = await createForwarding(app, options, { connections: CONNECTIONS, headersTimeout: ANSWER_TIMEOUT_MS });
  const forwardOptions = { buffered: true };

  app.get('/adapters', listAdapters, (request, reply) => forward(request, reply, forwardOptions));

  // A scope of its own, because no other of these calls has a body.
  await app.register(async (scope) => {
    scope.patch('/adapters/:id', changeAdapter, (request, reply) => forward(request, reply, forwardOptions));
  });

  app.removeContentTypeParser(['application/json', 'text/plain']);

  app.get('/adapters/:id/record', getAdapterRecord, (request, reply) => forward(request, reply, forwardOptions));

  app.get('/adapters/:id/manifest', getAdapterManifest, (request, reply) => forward(request, reply, forwardOptions));

  app.delete('/adapters/:id', deleteAdapter, async (request, reply) => {
    await beginDeletionIfAllowed(options, request.params.id, request.caller);
    return forward(request, reply, forwardOptions);
  });
}
