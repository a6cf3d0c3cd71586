import { bodyTooLarge, ImportAdapterQuery, ProductError, TAR_MEDIA_TYPES } from '@lorasmith/contracts';
import { boundedChunks, callerOfHeaders, freeBytesOfHeaders, type HttpApp, untilClosed } from '@lorasmith/service-kit';
import type { FastifyRequest } from 'fastify';
import type { AdapterImport } from './adapter-import.js';

export interface ImportRoutesOptions {
  imports: AdapterImport;
  /** Maximum size of the tar. */
  maxImportBytes: number;
}

const WHAT = 'tar';

/** `POST /adapters`: a PEFT folder as a tar. */
export async function importRoutes(app: HttpApp, options: ImportRoutesOptions): Promise<void> {
  const { imports, maxImportBytes } = options;
  app.removeContentTypeParser(['application/json', 'text/plain']);
  app.addContentTypeParser([...TAR_MEDIA_TYPES], (_request, payload, done) => done(null, payload));

  app.post('/adapters', { schema: { querystring: ImportAdapterQuery } }, async (request, reply) => {
    const { base_model: baseModel = null, name = null } = request.query;
    const { owner } = callerOfHeaders(request.headers);
    const freeBytes = freeBytesOfHeaders(request.headers);
    const signal = untilClosed(
      reply.raw,
      new ProductError('invalid_request', 'The caller disconnected before the end.'),
    );
    const body = bodyOf(request, maxImportBytes);
    const adapter = await imports.import(body, { baseModel, name, owner, freeBytes, signal });
    return await reply.code(201).header('location', `/adapters/${adapter.id}`).send(adapter);
  });
}

function bodyOf(request: FastifyRequest, maxBytes: number): AsyncIterable<Buffer> {
  const encoding = request.headers['content-encoding'] ?? 'identity';
  if (encoding !== 'identity') {
    throw new ProductError('unsupported_media_type', 'The body is compressed. Send an uncompressed tar (tar -cf).');
  }
  // A request without a body has no content type, so it has not been refused for that.
  if (request.body === undefined || request.body === null) {
    throw new ProductError(
      'unsupported_media_type',
      'Send the PEFT folder as a tar, with content-type application/x-tar.',
    );
  }
  if (Number(request.headers['content-length'] ?? 0) > maxBytes) throw bodyTooLarge(maxBytes, WHAT);
  return boundedChunks(request.raw, maxBytes, WHAT);
}
