import type { IncomingHttpHeaders } from 'node:http';
import type { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import replyFrom from '@fastify/reply-from';
import { AdapterId, ProductError } from '@lorasmith/contracts';
import { callerHeaders, drainBody, errorBody, type HttpApp, type Tracing, untilClosed } from '@lorasmith/service-kit';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Compile } from 'typebox/compile';
import { createRegistryCalls, type ForwardingPool } from './registry-calls.js';
import { registryUnavailable } from './registry-client.js';

export interface ForwardingOptions {
  /** Address of the registry, which answers these calls. */
  registryUrl: string;
  tracing: Tracing;
}

export interface ForwardOptions {
  /** The answer is read whole before any of it is sent: its client cannot keep the connection to the registry. */
  readWhole?: boolean;
  /** The answer is ended when its client takes nothing of it for so long. */
  stallMs?: number;
  /** Written over those of the client. */
  headers?: Record<string, string>;
  /** Sees an answer that was read whole before it is sent. What it throws is answered instead. */
  beforeSending?: (status: number, body: Buffer) => Promise<void>;
}

/** Answers with what the registry answers. */
export type Forward = (request: FastifyRequest, reply: FastifyReply, options: ForwardOptions) => FastifyReply;

const adapterIdSchema = Compile(AdapterId);
const FILE_NAME = /^\w[\w.-]{0,254}$/;

/** They are of the client's connection (RFC 9110, 7.6.1), of which the registry has no part; undici refuses some of them. */
const OF_THE_CONNECTION = [
  'connection',
  'expect',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
];
/** The registry asks for no key, so it is given none. */
const CREDENTIALS = ['authorization', 'cookie'];

/** Forwards calls of this part of the application to the registry, as they are, over connections of its own. */
export async function createForwarding(
  app: HttpApp,
  { registryUrl, tracing }: ForwardingOptions,
  pool: ForwardingPool,
): Promise<Forward> {
  const calls = createRegistryCalls(pool);
  await app.register(replyFrom, { base: registryUrl, disableRequestLogging: true, destroyAgent: true, undici: calls });
  return (request, reply, options) =>
    calls.endedBy(untilClosed(reply.raw), () => forwardRequest(request, reply, tracing, options));
}

/** The path is put together anew from its decoded parts, so that no part can become a path of its own. */
function forwardRequest(
  request: FastifyRequest,
  reply: FastifyReply,
  tracing: Tracing,
  { readWhole, stallMs, headers: own, beforeSending }: ForwardOptions,
): FastifyReply {
  const { id, name } = request.params as { id?: string; name?: string };
  refuseWhatIsNoName(id, name);
  const pattern = request.routeOptions.url ?? '/adapters';
  const path = pattern.replace(':id', encoded(id)).replace(':name', encoded(name));
  return reply.from(path, {
    rewriteRequestHeaders: (_request, headers) => ({
      ...without(headers, [...OF_THE_CONNECTION, ...CREDENTIALS]),
      ...callerHeaders(request.caller),
      ...own,
      ...tracing.carry(),
      'x-request-id': request.id,
    }),
    // Its own retries would multiply a client's.
    retryDelay: () => null,
    onResponse(_request, _reply, response) {
      const { stream } = response as unknown as { stream: Readable };
      if (stallMs !== undefined) endWhenStalled(request, reply, stallMs);
      if (readWhole && request.method !== 'HEAD') sendWhole(reply, stream, beforeSending);
      else reply.send(stream);
    },
    async onError(failed, { error }) {
      if (failed.raw.destroyed) {
        request.log.info({ err: error }, 'a call to the registry was ended because its client disconnected');
        return;
      }
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

function sendWhole(reply: FastifyReply, stream: Readable, look: ForwardOptions['beforeSending']): void {
  const read = async () => {
    const bytes = await buffer(stream).catch((error: Error) => {
      throw registryError(error);
    });
    await look?.(reply.statusCode, bytes);
    return bytes;
  };
  reply.removeHeader('transfer-encoding');
  read().then(
    (bytes) => reply.send(bytes),
    (error: unknown) => reply.removeHeader('location').send(error),
  );
}

function without(headers: IncomingHttpHeaders, names: readonly string[]): IncomingHttpHeaders {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !names.includes(name)));
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
  return registryUnavailable(cause);
}
