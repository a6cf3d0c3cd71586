import {
  ADAPTER_FILES,
  AdapterFilesQuery,
  AdapterQuery,
  bodyTooLarge,
  closed,
  DetailsChange,
  DownloadQuery,
  ImportAdapterQuery,
  ProductError,
  TAR_MEDIA_TYPES,
} from '@lorasmith/contracts';
import { boundedChunks, callerOfHeaders, freeBytesOfHeaders, type HttpApp, untilClosed } from '@lorasmith/service-kit';
import type { FastifyBaseLogger, FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import type { AdapterDownloads, WantedDownload } from '../downloads/adapter-downloads.js';
import { answerDownload } from '../downloads/answer-download.js';
import type { AdapterImport } from '../importing/adapter-import.js';
import { type FormQuery, formOf } from '../merging/derived-form.js';
import type { MergedModels } from '../merging/merged-models.js';
import type { DownloadEvent } from '../registry-metrics.js';
import type { AdapterLibrary } from './adapter-library.js';

const DEFAULT_PAGE_SIZE = 20;

/** Any text is accepted, so that an invalid id is answered like one that does not exist. */
const AdapterParams = Type.Object({ id: Type.String() }, closed);
const FileParams = Type.Object({ id: Type.String(), name: Type.String() }, closed);

export interface AdapterRoutesOptions {
  library: AdapterLibrary;
  downloads: AdapterDownloads;
  models: MergedModels;
  /** @see AnswerDownloadOptions */
  downloadStallMs: number;
  /** @see AnswerDownloadOptions */
  folderToken: string | null;
  /** Called for each download when its first byte is read. */
  onDownload: (event: DownloadEvent, log: FastifyBaseLogger) => void;
}

/** The routes under `/adapters`, with the paths of the public api. */
export async function adapterRoutes(app: HttpApp, options: AdapterRoutesOptions): Promise<void> {
  const { library, downloads, models, onDownload } = options;
  const answerOptions = { stallMs: options.downloadStallMs, folderToken: options.folderToken };

  const answer = (request: FastifyRequest, reply: FastifyReply, wanted: WantedDownload) => {
    const onStarted = (event: DownloadEvent) => onDownload(event, request.log);
    return downloads.answer({ ...wanted, onStarted }, (download) =>
      answerDownload(request, reply, download, answerOptions),
    );
  };

  app.addHook('preClose', async () => downloads.close());

  app.addHook('preHandler', async ({ params, headers }) => {
    const { id } = (params ?? {}) as { id?: string };
    if (id !== undefined) await library.checkOwner(id, callerOfHeaders(headers));
  });

  // Only for the api itself, which does not forward this path.
  app.get('/usage', async ({ headers }) => library.usage(callerOfHeaders(headers).owner));

  app.get('/adapters', { schema: { querystring: AdapterQuery } }, async ({ query, headers }) =>
    library.list({ ...query, limit: query.limit ?? DEFAULT_PAGE_SIZE }, callerOfHeaders(headers)),
  );

  app.get('/adapters/:id/record', { schema: { params: AdapterParams } }, ({ params }) => library.record(params.id));

  app.patch(
    '/adapters/:id',
    { schema: { params: AdapterParams, body: DetailsChange } },
    async ({ params, body, log }) => {
      const adapter = await library.changeDetails(params.id, body);
      log.info({ adapter: adapter.id, fields: Object.keys(body) }, 'adapter changed');
      return adapter;
    },
  );

  app.get('/adapters/:id', { schema: { params: AdapterParams, querystring: DownloadQuery } }, (request, reply) => {
    const { format = 'tar' } = request.query;
    const what = format === 'tar' ? 'tar' : 'weights';
    return answer(request, reply, { id: request.params.id, ...wantedOf(request.query), what });
  });

  app.get('/adapters/:id/manifest', { schema: { params: AdapterParams } }, (request, reply) =>
    // Not counted as a download.
    downloads.answer({ id: request.params.id, what: { name: ADAPTER_FILES.manifest } }, (download) =>
      answerDownload(request, reply, download, answerOptions),
    ),
  );

  app.get(
    '/adapters/:id/files',
    { schema: { params: AdapterParams, querystring: AdapterFilesQuery } },
    async ({ params, query }) => ({ data: await downloads.files({ id: params.id, ...wantedOf(query) }) }),
  );

  app.get(
    '/adapters/:id/files/:name',
    { schema: { params: FileParams, querystring: AdapterFilesQuery } },
    (request, reply) => {
      const { id, name } = request.params;
      return answer(request, reply, { id, ...wantedOf(request.query), what: { name } });
    },
  );

  app.delete('/adapters/:id', { schema: { params: AdapterParams } }, async ({ params }, reply) => {
    await library.delete(params.id);
    await models.forget(params.id);
    return reply.code(204).send();
  });
}

/** The part of a query that says what is downloaded. @throws ProductError as {@link formOf} */
function wantedOf(query: FormQuery & { base_model?: string }): Pick<WantedDownload, 'form' | 'baseModel'> {
  return { form: formOf(query), baseModel: query.base_model ?? null };
}

export interface ImportRoutesOptions {
  imports: AdapterImport;
  /** Maximum size of the tar, in bytes. */
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
