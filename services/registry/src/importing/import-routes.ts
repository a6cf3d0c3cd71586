import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { ImportAdapterQuery, ProductError } from '@lorasmith/contracts';
import type { HttpApp } from '@lorasmith/service-kit';
import type { FastifyRequest } from 'fastify';
import type { AdapterLibrary } from '../adapters/adapter-library.js';
import type { AdapterImport } from './adapter-import.js';

export interface ImportRoutesOptions {
  imports: AdapterImport;
  library: AdapterLibrary;
  /** Of the tar. */
  maxImportBytes: number;
}

const TAR_TYPES = ['application/x-tar', 'application/tar', 'application/octet-stream'];
/** Of a body that was refused before its end: what is read on, so that the sender gets to read the answer. */
const DRAIN_BYTES = 32 * 1024 * 1024;
const DRAIN_MS = 3_000;

/** `POST /adapters`: a PEFT folder as a tar. */
export async function importRoutes(app: HttpApp, options: ImportRoutesOptions): Promise<void> {
  const { imports, library, maxImportBytes } = options;
  app.removeContentTypeParser(['application/json', 'text/plain']);
  app.addContentTypeParser(TAR_TYPES, (_request, payload, done) => done(null, payload));

  app.post('/adapters', { schema: { querystring: ImportAdapterQuery } }, async (request, reply) => {
    const { base_model: baseModel = null, name = null } = request.query;
    try {
      const id = await imports.import(bodyOf(request, maxImportBytes), { baseModel, name });
      return await reply
        .code(201)
        .header('location', `/adapters/${id}`)
        .send(await library.summary(id));
    } catch (error) {
      await drain(request.raw);
      throw error;
    }
  });
}

function bodyOf(request: FastifyRequest, maxBytes: number): AsyncIterable<Buffer> {
  const encoding = request.headers['content-encoding'] ?? 'identity';
  if (encoding !== 'identity') {
    throw new ProductError('unsupported_media_type', 'The body is compressed. Send a plain tar (tar -cf).');
  }
  // A request without a body has no content type that could have been refused.
  if (request.body === undefined || request.body === null) {
    throw new ProductError(
      'unsupported_media_type',
      'Send the PEFT folder as a tar, with content-type application/x-tar.',
    );
  }
  if (Number(request.headers['content-length'] ?? 0) > maxBytes) throw tooLarge(maxBytes);
  return boundedChunks(request.raw, maxBytes);
}

async function* boundedChunks(stream: Readable, maxBytes: number): AsyncGenerator<Buffer> {
  let bytes = 0;
  try {
    // Destroying the request would take the connection along, and with it the answer.
    for await (const chunk of stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > maxBytes) throw tooLarge(maxBytes);
      yield chunk;
    }
  } catch (error) {
    if (error instanceof ProductError) throw error;
    throw new ProductError('invalid_request', 'The upload ended before its end.', { cause: error });
  }
}

/** Reads on for a while what a refused sender still sends: many read the answer only after they have sent everything. */
async function drain(raw: Readable): Promise<void> {
  if (raw.readableEnded || raw.destroyed) return;
  let bytes = 0;
  const enough = new AbortController();
  raw.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > DRAIN_BYTES) enough.abort();
  });
  for (const event of ['end', 'close', 'error']) raw.once(event, () => enough.abort());
  raw.resume();
  await sleep(DRAIN_MS, undefined, { signal: enough.signal }).catch(() => {});
}

function tooLarge(maxBytes: number): ProductError {
  return new ProductError('body_too_large', `The tar is larger than ${maxBytes} bytes, the most that is taken.`);
}
