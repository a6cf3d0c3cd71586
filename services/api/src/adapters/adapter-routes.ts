import type { IncomingHttpHeaders } from 'node:http';
import { Readable } from 'node:stream';
import replyFrom from '@fastify/reply-from';
import {
  Adapter,
  AdapterFileList,
  AdapterId,
  AdapterManifest,
  AdapterPage,
  ImportAdapterQuery,
  PageQuery,
  ProductError,
} from '@lorasmith/contracts';
import {
  callerHeaders,
  drainBody,
  errorBody,
  type HttpApp,
  type TraceCarrier,
  type Tracing,
} from '@lorasmith/service-kit';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { type TSchema, Type } from 'typebox';
import { Compile } from 'typebox/compile';
import type { ByteQuota } from '../access/byte-quota.js';
import { type Answer, answer, errorAnswers, noBody } from '../openapi/answers.js';

export interface AdapterRoutesOptions {
  /** Address of the registry, which answers these calls. */
  registryUrl: string;
  quota: ByteQuota;
  tracing: Tracing;
}

const tags = ['adapters'];
const closed = { additionalProperties: false };
const params = Type.Object({ id: Type.String({ maxLength: 200 }) }, closed);
const fileParams = Type.Object({ id: Type.String({ maxLength: 200 }), name: Type.String({ maxLength: 300 }) }, closed);
const weights = Type.Optional(
  Type.Enum(['adapter', 'merged'], {
    default: 'adapter',
    description: 'merged: of the whole model with the adapter in it, W + (alpha / r) B A. Made when first asked for.',
  }),
);
const DownloadQuery = Type.Object(
  {
    weights,
    format: Type.Optional(
      Type.Enum(['tar', 'safetensors'], {
        default: 'tar',
        description: 'safetensors: the weights file alone.',
      }),
    ),
  },
  closed,
);
const FilesQuery = Type.Object({ weights }, closed);
const bytes = (description: string) => Type.Unsafe<Uint8Array>(Type.String({ format: 'binary', description }));
const IMPORT_BODY = { content: { 'application/x-tar': { schema: bytes('A plain tar of a PEFT folder.') } } };
const rangeHeaders = Type.Object({
  range: Type.Optional(Type.String({ description: 'One range of bytes.', examples: ['bytes=0-1023'] })),
  'if-none-match': Type.Optional(Type.String({ description: 'An ETag: 304 when it is still the same.' })),
  'if-range': Type.Optional(Type.String({ description: 'An ETag: the range only if it is still the same.' })),
});
const download = (description: string, ...contentTypes: string[]) => ({
  200: answerOf(contentTypes, description, bytes('Strong ETag, Content-Length, Accept-Ranges.')),
  206: answerOf(contentTypes, 'The range asked for.', bytes('With Content-Range.')),
  304: noBody('Unchanged.'),
  ...errorAnswers(400, 404, 409, 416, 422, 503, 504),
});

function answerOf(contentTypes: string[], description: string, schema: TSchema): Answer {
  return { description, content: Object.fromEntries(contentTypes.map((type) => [type, { schema }])) };
}

/** Content types of a tar. */
const TAR_TYPES = ['application/x-tar', 'application/tar', 'application/octet-stream'];

const adapterIdSchema = Compile(AdapterId);
const FILE_NAME = /^\w[\w.-]{0,254}$/;

/** A merge of a large model is waited for; the registry has the shorter limit. */
const HEADERS_TIMEOUT_MS = 60 * 60_000;
const BODY_TIMEOUT_MS = 120_000;
const CONNECT_TIMEOUT_MS = 2_000;

/** The calls under `/adapters`, forwarded to the registry as they are: streamed, with ranges and ETags. */
export async function adapterRoutes(
  app: HttpApp,
  { registryUrl, quota, tracing }: AdapterRoutesOptions,
): Promise<void> {
  const forward = (request: FastifyRequest, reply: FastifyReply) => forwardRequest(request, reply, tracing.carry());
  await app.register(replyFrom, {
    base: registryUrl,
    disableRequestLogging: true,
    undici: {
      connections: 128,
      headersTimeout: HEADERS_TIMEOUT_MS,
      bodyTimeout: BODY_TIMEOUT_MS,
      connect: { timeout: CONNECT_TIMEOUT_MS },
    },
  });

  app.get(
    '/adapters',
    {
      schema: {
        operationId: 'listAdapters',
        summary: 'Adapters, newest first',
        tags,
        querystring: PageQuery,
        response: { 200: answer('A page of them.', AdapterPage), ...errorAnswers(400, 503) },
      },
    },
    (request, reply) => forward(request, reply),
  );

  // The body goes on to the registry as it comes, which knows its bounds.
  app.removeContentTypeParser(['application/json', 'text/plain']);
  app.addContentTypeParser(TAR_TYPES, (_request, payload, done) => done(null, payload));
  app.post(
    '/adapters',
    {
      config: { documentedBody: IMPORT_BODY },
      schema: {
        operationId: 'importAdapter',
        summary: 'Bring in an adapter of PEFT, to serve it, merge it, or go on training it',
        description:
          'A plain tar of a PEFT folder: `adapter_config.json` and `adapter_model.safetensors` at its top or in one ' +
          'folder; other files are left behind. Without `base_model` the last part of `base_model_name_or_path` in the ' +
          'config names it. The adapter is checked against that model and written anew with one rank and one scale.',
        tags,
        querystring: ImportAdapterQuery,
        response: {
          201: answer('Imported. `Location` is where it is.', Adapter),
          ...errorAnswers(400, 404, 413, 415, 422, 503, 504, 507),
        },
      },
    },
    (request, reply) => {
      if (request.body instanceof Readable) request.body = meteredBody(request, reply, quota);
      return forward(request, reply);
    },
  );

  app.get(
    '/adapters/:id',
    {
      schema: {
        operationId: 'downloadAdapter',
        summary: 'Download an adapter, or the model merged with it',
        description:
          'A tar of the PEFT folder; with `weights=merged` a tar of the merged model in Hugging Face layout; with ' +
          '`format=safetensors` only the weights.',
        tags,
        params,
        querystring: DownloadQuery,
        headers: rangeHeaders,
        response: download('A tar, or a safetensors file.', 'application/x-tar', 'application/octet-stream'),
      },
    },
    (request, reply) => forward(request, reply),
  );

  app.get(
    '/adapters/:id/manifest',
    {
      schema: {
        operationId: 'getAdapterManifest',
        summary: 'How an adapter came to be',
        tags,
        params,
        response: { 200: answer('The manifest.', AdapterManifest), ...errorAnswers(404, 503) },
      },
    },
    (request, reply) => forward(request, reply),
  );

  app.get(
    '/adapters/:id/files',
    {
      schema: {
        operationId: 'listAdapterFiles',
        summary: 'Files of an adapter, with their digests',
        tags,
        params,
        querystring: FilesQuery,
        response: { 200: answer('The files.', AdapterFileList), ...errorAnswers(400, 404, 409, 422, 503, 504) },
      },
    },
    (request, reply) => forward(request, reply),
  );

  app.get(
    '/adapters/:id/files/:name',
    {
      schema: {
        operationId: 'downloadAdapterFile',
        summary: 'Download one file of an adapter',
        tags,
        params: fileParams,
        querystring: FilesQuery,
        headers: rangeHeaders,
        response: download('The file.', 'application/octet-stream', 'application/json', 'text/plain'),
      },
    },
    (request, reply) => forward(request, reply),
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
    (request, reply) => forward(request, reply),
  );
}

/** The body, which ends with an error where there is no room for it. */
function meteredBody(request: FastifyRequest, reply: FastifyReply, quota: ByteQuota): Readable {
  const { adapterBytes: own, totalAdapterBytes: total } = request.limits;
  const upload = quota.begin(request.caller.owner, { own, total });
  reply.raw.once('close', () => {
    upload.end().catch(() => request.log.warn('what an import held of a quota is let go later'));
  });
  const { 'content-length': length } = request.headers;
  // Destroying the request would take the connection along, and with it the answer.
  const chunks = request.raw.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
  return Readable.from(upload.metered(chunks, length === undefined ? undefined : Number(length)), {
    objectMode: false,
  });
}

/** The path is put together anew from its decoded parts, so that no part can become a path of its own. */
function forwardRequest(request: FastifyRequest, reply: FastifyReply, trace: TraceCarrier): FastifyReply {
  const { id, name } = request.params as { id?: string; name?: string };
  refuseWhatIsNoName(id, name);
  const pattern = request.routeOptions.url ?? '/adapters';
  const path = pattern.replace(':id', encoded(id)).replace(':name', encoded(name));
  return reply.from(path, {
    // curl expects a 100 before it sends a larger body; this server has answered that already.
    rewriteRequestHeaders: (_request, { expect: _answered, ...headers }) => ({
      ...withoutCredentials(headers),
      ...callerHeaders(request.caller),
      ...trace,
      'x-request-id': request.id,
    }),
    // Its own retries would multiply a client's.
    retryDelay: () => null,
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
