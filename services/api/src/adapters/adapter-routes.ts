import { AdapterManifest, AdapterPage, PageQuery } from '@lorasmith/contracts';
import type { HttpApp } from '@lorasmith/service-kit';
import { Type } from 'typebox';
import { answer, errorAnswers, noBody } from '../openapi/answers.js';
import { createForwarding, type ForwardingOptions } from './forward-request.js';

/** The registry answers these at once. */
const ANSWER_TIMEOUT_MS = 60_000;
const CONNECTIONS = 128;

const tags = ['adapters'];
const closed = { additionalProperties: false };
const params = Type.Object({ id: Type.String({ maxLength: 200 }) }, closed);

/**
 * The calls under `/adapters` that neither take nor give an adapter. They have connections of their own to the registry, and
 * no answer keeps one until its client has read it, so that no download stands in their way.
 */
export async function adapterRoutes(app: HttpApp, options: ForwardingOptions): Promise<void> {
  const forward = await createForwarding(app, options, { connections: CONNECTIONS, headersTimeout: ANSWER_TIMEOUT_MS });
  const buffered = { readWhole: true };

  app.get(
    '/adapters',
    {
      schema: {
        operationId: 'listAdapters',
        summary: 'Adapters, newest first',
        tags,
        querystring: PageQuery,
        response: { 200: answer('One page.', AdapterPage), ...errorAnswers(400, 503) },
      },
    },
    (request, reply) => forward(request, reply, buffered),
  );

  app.removeContentTypeParser(['application/json', 'text/plain']);

  app.get(
    '/adapters/:id/manifest',
    {
      schema: {
        operationId: 'getAdapterManifest',
        summary: 'How an adapter was made',
        tags,
        params,
        response: { 200: answer('The manifest.', AdapterManifest), ...errorAnswers(404, 503) },
      },
    },
    (request, reply) => forward(request, reply, buffered),
  );

  app.delete(
    '/adapters/:id',
    {
      schema: {
        operationId: 'deleteAdapter',
        summary: 'Delete an adapter',
        tags,
        params,
        response: { 204: noBody('Deleted.'), ...errorAnswers(404, 409, 503) },
      },
    },
    (request, reply) => forward(request, reply, buffered),
  );
}
