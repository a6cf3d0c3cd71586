import {
  ADAPTER_FILES,
  type AdapterFile,
  AdapterFilesQuery,
  DownloadQuery,
  PageQuery,
  ProductError,
} from '@lorasmith/contracts';
import { callerOfHeaders, type HttpApp } from '@lorasmith/service-kit';
import type { BundleStore } from '@lorasmith/storage';
import type { FastifyBaseLogger, FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { answerDownload, type Download } from '../downloads/answer-download.js';
import { type BundleContent, fileDownload, tarDownload } from '../downloads/bundle-downloads.js';
import type { MergedModels } from '../merging/merged-models.js';
import type { DownloadEvent } from '../metrics/registry-metrics.js';
import type { AdapterLibrary } from './adapter-library.js';

const closed = { additionalProperties: false };
const DEFAULT_PAGE_SIZE = 20;

/** Any text is accepted, so that an invalid id is answered like one that does not exist. */
const AdapterParams = Type.Object({ id: Type.String() }, closed);
const FileParams = Type.Object({ id: Type.String(), name: Type.String() }, closed);

export interface AdapterRoutesOptions {
  library: AdapterLibrary;
  adapters: BundleStore;
  merged: BundleStore;
  models: MergedModels;
  /** @see answerDownload */
  downloadStallMs: number;
  /** Called for each download when its first byte is read. */
  onDownload: (event: DownloadEvent, log: FastifyBaseLogger) => void;
}

/** The routes under `/adapters`, with the paths of the public api. */
export async function adapterRoutes(app: HttpApp, options: AdapterRoutesOptions): Promise<void> {
  const { library, adapters, merged, models, downloadStallMs, onDownload } = options;

  /** Answers with a download from an adapter or its merged model, which is held on disk until the last byte is read. */
  const answer = async (
    request: FastifyRequest<{ Params: { id: string }; Querystring: { weights?: 'adapter' | 'merged' } }>,
    reply: FastifyReply,
    choose: (content: BundleContent, createdAt: Date) => Download,
  ): Promise<FastifyReply> => {
    const adapter = await library.check(request.params.id);
    const createdAt = new Date(adapter.manifest.created_at);
    const { weights = 'adapter' } = request.query;
    const reported = (download: Download): Download['open'] => {
      return async ({ start, end }) => {
        const { id, manifest } = adapter;
        const { origin } = manifest;
        const job = origin.kind === 'imported' ? null : origin.job;
        onDownload({ adapter: id, job, weights, bytes: end - start + 1 }, request.log);
        return await download.open({ start, end });
      };
    };
    if (weights !== 'merged') {
      const download = choose({ store: adapters, ...adapter }, createdAt);
      return await answerDownload(request, reply, { ...download, open: reported(download) }, downloadStallMs);
    }
    const { files, release } = await models.acquire(adapter);
    let streaming = false;
    try {
      const download = choose({ store: merged, id: adapter.id, files }, createdAt);
      const open: Download['open'] = async (range) => {
        const stream = await reported(download)(range);
        streaming = true;
        return stream.once('close', release);
      };
      return await answerDownload(request, reply, { ...download, open }, downloadStallMs);
    } finally {
      if (!streaming) release();
    }
  };

  app.addHook('preHandler', async ({ params, headers }) => {
    const { id } = (params ?? {}) as { id?: string };
    if (id !== undefined) await library.checkOwner(id, callerOfHeaders(headers));
  });

  // Only for the api itself, which does not forward this path.
  app.get('/usage', async ({ headers }) => library.usage(callerOfHeaders(headers).owner));

  app.get('/adapters', { schema: { querystring: PageQuery } }, async ({ query, headers }) =>
    library.list({ after: query.after, limit: query.limit ?? DEFAULT_PAGE_SIZE }, callerOfHeaders(headers)),
  );

  app.get('/adapters/:id', { schema: { params: AdapterParams, querystring: DownloadQuery } }, (request, reply) =>
    answer(request, reply, (content, createdAt) => {
      const { weights, format } = request.query;
      if (format === 'safetensors') return fileDownload(content, weightsFile(content));
      const suffix = weights === 'merged' ? '-merged' : '';
      return tarDownload(content, createdAt, `${content.id}${suffix}.tar`);
    }),
  );

  app.get('/adapters/:id/manifest', { schema: { params: AdapterParams } }, async (request, reply) => {
    const adapter = await library.check(request.params.id);
    const content = { store: adapters, ...adapter };
    const download = fileDownload(content, namedFile(content, ADAPTER_FILES.manifest));
    return await answerDownload(request, reply, download, downloadStallMs);
  });

  app.get(
    '/adapters/:id/files',
    { schema: { params: AdapterParams, querystring: AdapterFilesQuery } },
    async ({ params, query }): Promise<{ data: AdapterFile[] }> => {
      const adapter = await library.check(params.id);
      if (query.weights !== 'merged') return { data: adapter.files };
      const { files, release } = await models.acquire(adapter);
      release();
      return { data: files };
    },
  );

  app.get(
    '/adapters/:id/files/:name',
    { schema: { params: FileParams, querystring: AdapterFilesQuery } },
    (request, reply) =>
      answer(request, reply, (content) => fileDownload(content, namedFile(content, request.params.name))),
  );

  app.delete('/adapters/:id', { schema: { params: AdapterParams } }, async ({ params }, reply) => {
    await library.delete(params.id);
    await models.forget(params.id);
    return reply.code(204).send();
  });
}

function namedFile({ id, files }: BundleContent, name: string): AdapterFile {
  const file = files.find((candidate) => candidate.name === name);
  if (file !== undefined) return file;
  const existing = files.map((candidate) => candidate.name).join(', ');
  const message = `${id} has no file ${JSON.stringify(name.slice(0, 100))}. Its files are ${existing}.`;
  throw new ProductError('not_found', message);
}

function weightsFile({ id, files }: BundleContent): AdapterFile {
  const [first, ...more] = files.filter(({ name }) => name.endsWith('.safetensors'));
  if (first === undefined) throw new ProductError('invalid_adapter', `${id} has no safetensors file.`);
  if (more.length > 0) {
    const message = `The merged model has ${more.length + 1} weight files. Download the tar, or each file from /adapters/${id}/files/NAME?weights=merged.`;
    throw new ProductError('conflict', message, { param: 'format' });
  }
  return first;
}
