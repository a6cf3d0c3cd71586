import type { IncomingHttpHeaders } from 'node:http';
import type { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import replyFrom from '@fastify/reply-from';
import { AdapterId, ProductError } from '@lorasmith/contracts';
import { callerHeaders, drainBody, errorBody, type HttpApp, type Tracing } from '@lorasmith/service-kit';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Compile } from 'typebox/compile';

export interface ForwardingOptions {
  /** Address of the registry, which answers these calls. */
  registryUrl: string;
  tracing: Tracing;
}

export interface ForwardingPool {
  /** Connections to the registry; null: as many as there are calls. */
  connections: number | null;
  /** Time until the registry begins to answer. */
  headersTimeout: number;
}

export interface ForwardOptions {
  /** The answer is read whole before any of it is sent: its client cannot keep the connection to the registry. */
  readWhole?: boolean;
  /** The answer is ended when its client takes nothing of it for so long. */
  stallMs?: number;
}

/** Answers with what the registry answers. */
export type Forward = (request: FastifyRequest, reply: FastifyReply, options: ForwardOptions) => FastifyReply;

const BODY_TIMEOUT_MS = 120_000;
const CONNECT_TIMEOUT_MS = 2_000;

const adapterIdSchema = Compile(AdapterId);
const FILE_NAME = /^\w[\w.-]{0,254}$/;

/** Forwards calls of this part of the application to the registry, as they are, over connections of its own. */
export async function createForwarding(
  app: HttpApp,
  { registryUrl, tracing }: ForwardingOptions,
  pool: ForwardingPool,
): Promise<Forward> {
  await app.register(replyFrom, {
    base: registryUrl,
    disableRequestLogging: true,
    destroyAgent: true,
    undici: { ...pool, bodyTimeout: BODY_TIMEOUT_MS, connect: { timeout: CONNECT_TIMEOUT_MS } },
  });
  return (request, reply, options) => forwardRequest(request, reply, tracing, options);
}

/** The path is put together anew from its decoded parts, so that no part can become a path of its own. */
function forwardRequest(
  request: FastifyRequest,
  reply: FastifyReply,
  tracing: Tracing,
  { readWhole, stallMs }: ForwardOptions,
): FastifyReply {
  const { id, name } = request.params as { id?: string; name?: string };
  refuseWhatIsNoName(id, name);
  const pattern = request.routeOptions.url ?? '/adapters';
  const path = pattern.replace(':id', encoded(id)).replace(':name', encoded(name));
  return reply.from(path, {
    // curl expects a 100 before it sends a larger body; this server has answered that already.
    rewriteRequestHeaders: (_request, { expect: _answered, ...headers }) => ({
      ...withoutCredentials(headers),
      ...callerHeaders(request.caller),
      ...tracing.carry(),
      'x-request-id': request.id,
    }),
    // Its own retries would multiply a client's.
    retryDelay: () => null,
    onResponse(_request, _reply, response) {
      const { stream } = response as unknown as { stream: Readable };
      if (stallMs !== undefined) endWhenStalled(request, reply, stallMs);
      if (readWhole && request.method !== 'HEAD') sendWhole(reply, stream);
      else reply.send(stream);
    },
    async onError(failed, { error }) {
      // What the body was refused for, or else the registry.
      const answered = error.cause instanceof ProductError ? error.cause : registryError(error);
      if (answered === error.cause) await drainBody(request.raw);
      const level = answered.status >= 500 ? 'error' : 'info';
      request.log[level]({ err: error, code: answered.code }, answered.message);
      failed
        .code(answered.status)
        .header('retry-after', answered.status === 429 ? '30' : '2')
        .header('connection', 'close')
        .send(errorBody(answered, request.id));
    },
  });
}

/** A client that stops reading would keep its download, the files behind it and its connections for ever. */
function endWhenStalled(request: FastifyRequest, reply: FastifyReply, stallMs: number): void {
  reply.raw.setTimeout(stallMs, () => {
    request.log.info({ stall_ms: stallMs }, 'a download was ended because its client stopped reading');
    reply.raw.destroy();
  });
}

function sendWhole(reply: FastifyReply, stream: Readable): void {
  buffer(stream).then(
    (bytes) => reply.removeHeader('transfer-encoding').send(bytes),
    (error: Error) => reply.send(registryError(error)),
  );
}

/** The registry asks for no key, so it is given none. */
function withoutCredentials({ authorization: _key, cookie: _cookie, ...headers }: IncomingHttpHeaders) {
  return headers;
}

/** What cannot be an id or a file is answered like one that does not exist, without asking the registry. */
function refuseWhatIsNoName(id?: string, name?: string): void {
  const shown = (part: string) => JSON.stringify(part.slice(0, 100));
  if (id !== undefined && !adapterIdSchema.Check(id)) {
    throw new ProductError('adapter_not_found', `There is no adapter ${shown(id)}.`);
  }
  if (name !== undefined && !FILE_NAME.test(name)) {
    throw new ProductError('not_found', `${id} has no file ${shown(name)}.`);
  }
}

function encoded(part = ''): string {
  // A replacement string must not have `$` patterns, and dots alone would climb.
  const text = encodeURIComponent(part).replaceAll('$', '%24');
  return /^\.+$/.test(text) ? text.replaceAll('.', '%2E') : text;
}

function registryError(cause: Error & { statusCode?: number }): ProductError {
  if (cause.statusCode === 504) return new ProductError('timeout', 'The registry did not answer in time.', { cause });
  return new ProductError('registry_unavailable', 'The registry cannot be reached. Try again in a moment.', { cause });
}
