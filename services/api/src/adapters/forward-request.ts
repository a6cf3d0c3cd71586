import { AsyncLocalStorage } from 'node:async_hooks';
import type { IncomingHttpHeaders } from 'node:http';
import type { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import replyFrom from '@fastify/reply-from';
import type { AliasStore } from '@lorasmith/artifacts';
import { AdapterId, ProductError } from '@lorasmith/contracts';
import {
  callerHeaders,
  errorBody,
  FILE_ANSWER_HEADER,
  folderTokenHeaders,
  type HttpApp,
  serviceSecretHeaders,
  type Tracing,
  untilClosed,
} from '@lorasmith/service-kit';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { Compile } from 'typebox/compile';
import { Agent, type Dispatcher } from 'undici';
import { endWhenStalled } from '../access/concurrency-limit.js';
import { FileStream, openFileAnswer, segmentBytes } from './file-answer.js';
import { type RegistryAddress, registryUnavailable } from './registry-client.js';

export interface ForwardingOptions {
  address: RegistryAddress;
  tracing: Tracing;
}

export interface ForwardOptions {
  /** Reads the complete answer before it is sent, so that a slow client does not keep a connection to the registry. */
  buffered?: boolean;
  /** Ends the answer if its client reads no bytes for this time. */
  stallMs?: number;
  /** The data folder and its token: if the registry shares it, it names the files to send. */
  files?: { dataDir: string; token: string };
  /** They replace headers of the same name from the client. */
  headers?: Record<string, string>;
  /** Checks a buffered answer before it is sent. An error that it throws is answered instead. */
  beforeSending?: (status: number, body: Buffer) => Promise<void>;
}

/** Forwards a request to the registry and answers with its answer. */
export type Forward = (request: FastifyRequest, reply: FastifyReply, options: ForwardOptions) => Promise<FastifyReply>;

/** The header of answers about an adapter, and of text that one generated: its id, whatever name the request has. */
export const ADAPTER_HEADER = 'x-lorasmith-adapter';

/** Any text, so that an invalid id is answered like one that does not exist. */
export const AdapterIdParam = Type.String({
  maxLength: 200,
  description: `The id of an adapter, or a name that points to one. \`${ADAPTER_HEADER}\` of the answer is the id.`,
});

/** Has the routes of a scope take a name of an adapter for its id. It is looked up once, so that the whole answer is of one adapter. */
export function acceptNames(app: HttpApp, aliases: Pick<AliasStore, 'adapterOf'>): void {
  app.addHook('preHandler', async ({ params, caller }) => {
    const { id } = (params ?? {}) as { id?: string };
    if (id === undefined) return;
    const adapter = await aliases.adapterOf(id, caller.owner);
    if (adapter !== null) Object.assign(params as object, { id: adapter });
  });
}

const adapterIdSchema = Compile(AdapterId);
const FILE_NAME = /^\w[\w.-]{0,254}$/;

/** Headers that concern only the client's connection (RFC 9110, 7.6.1). undici refuses some of them. */
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
/** The registry asks for no key, so it receives none. */
const CREDENTIALS = ['authorization', 'cookie'];

/** Creates the forwarding of requests in this scope of the application, with its own connections to the registry. */
export async function createForwarding(
  app: HttpApp,
  { address, tracing }: ForwardingOptions,
  pool: ForwardingPool,
): Promise<Forward> {
  const calls = createRegistryCalls(pool);
  await app.register(replyFrom, { base: address.url, disableRequestLogging: true, destroyAgent: true, undici: calls });
  return async (request, reply, options) => {
    const carried = { ...serviceSecretHeaders(await address.secret()), ...tracing.carry() };
    return calls.abortedBy(untilClosed(reply.raw), () => forwardRequest(request, reply, carried, options));
  };
}

/**
 * Builds the path from its decoded and encoded-again parts, so that no part can contain further segments.
 *
 * @param carried - headers of every call: the secret, and what traces carry
 */
function forwardRequest(
  request: FastifyRequest,
  reply: FastifyReply,
  carried: Record<string, string>,
  options: ForwardOptions,
): FastifyReply {
  const { buffered, stallMs, files, headers: own, beforeSending } = options;
  const { id, name } = request.params as { id?: string; name?: string };
  checkNames(id, name);
  if (id !== undefined) reply.header(ADAPTER_HEADER, id);
  const pattern = request.routeOptions.url ?? '/adapters';
  const path = pattern.replace(':id', encoded(id)).replace(':name', encoded(name));
  return reply.from(path, {
    rewriteRequestHeaders: (_request, headers) => ({
      ...without(headers, [...OF_THE_CONNECTION, ...CREDENTIALS]),
      ...callerHeaders(request.caller),
      ...folderTokenHeaders(files?.token ?? null),
      ...own,
      ...carried,
      'x-request-id': request.id,
    }),
    // Retries here would multiply those of the client.
    retryDelay: () => null,
    onResponse(_request, _reply, response) {
      const { stream } = response as unknown as { stream: Readable };
      if (files !== undefined && reply.hasHeader(FILE_ANSWER_HEADER)) {
        sendFiles(request, reply, stream, files.dataDir, stallMs).catch((error: unknown) => {
          request.log.warn({ err: error }, 'the registry sends a download because its files cannot be opened');
          for (const name of Object.keys(reply.getHeaders())) reply.removeHeader(name);
          const { files: _, ...withoutFiles } = options;
          forwardRequest(request, reply, carried, withoutFiles);
        });
        return;
      }
      if (stallMs !== undefined) endWhenStalled(request, reply, stallMs);
      if (buffered && request.method !== 'HEAD') sendBuffered(reply, stream, beforeSending);
      else reply.send(stream);
    },
    async onError(failed, { error }) {
      if (failed.raw.destroyed) {
        request.log.info({ err: error }, 'a call to the registry was ended because its client disconnected');
        return;
      }
      // Either the quota refused the body, or the registry failed.
      const answered = error.cause instanceof ProductError ? error.cause : registryError(error);
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

/** Answers with the files that the registry names. Sends nothing if it throws. */
async function sendFiles(
  request: FastifyRequest,
  reply: FastifyReply,
  answer: Readable,
  dataDir: string,
  stallMs: number | undefined,
): Promise<void> {
  const { id = '' } = request.params as { id?: string };
  const opened = await openFileAnswer(answer, dataDir, id);
  const stream = new FileStream(opened);
  stream.once('error', (error) => {
    if (!reply.raw.destroyed) request.log.error({ err: error }, 'a download was ended because a file cannot be read');
  });
  if (stallMs !== undefined) endWhenStalled(request, reply, stallMs);
  reply.removeHeader(FILE_ANSWER_HEADER).removeHeader('transfer-encoding');
  reply.header('content-length', segmentBytes(opened.segments)).send(stream);
}

function sendBuffered(reply: FastifyReply, stream: Readable, check: ForwardOptions['beforeSending']): void {
  const read = async () => {
    const bytes = await buffer(stream).catch((error: Error) => {
      throw registryError(error);
    });
    await check?.(reply.statusCode, bytes);
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

/** Answers an invalid id or file name like one that does not exist, without a call to the registry. */
function checkNames(id?: string, name?: string): void {
  const shown = (part: string) => JSON.stringify(part.slice(0, 100));
  if (id !== undefined && !adapterIdSchema.Check(id)) {
    throw new ProductError('adapter_not_found', `There is no adapter ${shown(id)}.`);
  }
  if (name !== undefined && !FILE_NAME.test(name)) {
    throw new ProductError('not_found', `${id} has no file ${shown(name)}.`);
  }
}

function encoded(part = ''): string {
  // `$` has a meaning in a replacement string, and a segment of dots would leave its folder.
  const text = encodeURIComponent(part).replaceAll('$', '%24');
  return /^\.+$/.test(text) ? text.replaceAll('.', '%2E') : text;
}

function registryError(cause: Error & { statusCode?: number }): ProductError {
  if (cause.statusCode === 504) return new ProductError('timeout', 'The registry did not answer in time.', { cause });
  return registryUnavailable(cause);
}

const BODY_TIMEOUT_MS = 120_000;
const CONNECT_TIMEOUT_MS = 2_000;

export interface ForwardingPool {
  /** Maximum connections to the registry; null: no limit. */
  connections: number | null;
  /** Maximum time until the registry starts to answer. */
  headersTimeout: number;
}

/** Connections to the registry, for reply-from. */
interface RegistryCalls {
  request: Dispatcher['request'];
  destroy(): Promise<void>;
  /** Aborts calls made by `work` when the signal is aborted, because reply-from has no such option. */
  abortedBy<Result>(signal: AbortSignal, work: () => Result): Result;
}

function createRegistryCalls(pool: ForwardingPool): RegistryCalls {
  const agent = new Agent({
    ...pool,
    pipelining: 1,
    bodyTimeout: BODY_TIMEOUT_MS,
    connect: { timeout: CONNECT_TIMEOUT_MS },
  });
  const signals = new AsyncLocalStorage<AbortSignal>();
  const request = (options: Dispatcher.RequestOptions, callback: Callback) =>
    agent.request({ ...options, signal: signals.getStore() ?? null }, callback);
  return {
    request: request as Dispatcher['request'],
    destroy: () => agent.destroy(),
    abortedBy: (signal, work) => signals.run(signal, work),
  };
}

type Callback = (error: Error | null, answer: Dispatcher.ResponseData) => void;
