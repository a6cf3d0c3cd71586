import multipart from '@fastify/multipart';
import { Dataset, DatasetPage, PageQuery, ProductError } from '@lorasmith/contracts';
import type { JobStore } from '@lorasmith/job-store';
import type { ExampleStore } from '@lorasmith/planning';
import { endUpload, type HttpApp } from '@lorasmith/service-kit';
import type { FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import type { ByteQuota } from '../access/byte-quota.js';
import { createConcurrencyLimit } from '../access/concurrency-limit.js';
import { answer, errorAnswers, noBody } from '../openapi/answers.js';
import type { DatasetCatalog } from './dataset-catalog.js';
import { RAW_CONTENT_TYPES, uploadSourceOf } from './upload-source.js';

export interface DatasetRoutesOptions {
  catalog: DatasetCatalog;
  jobs: Pick<JobStore, 'datasets'>;
  examples: Pick<ExampleStore, 'removeDataset'>;
  quota: ByteQuota;
  maxBytes: number;
}

const tags = ['datasets'];
const closed = { additionalProperties: false };
const DatasetParams = Type.Object({ id: Type.String({ maxLength: 200 }) }, closed);
const UploadQuery = Type.Object(
  { name: Type.Optional(Type.String({ minLength: 1, maxLength: 128, description: 'A name of your choice.' })) },
  closed,
);

const rows = Type.String({
  description: 'One JSON object per line.',
  examples: ['{"prompt": "the third of March, 2011", "completion": "2011-03-03"}\n'],
});
const form = Type.Object({ file: Type.String({ format: 'binary' }), name: Type.Optional(Type.String()) });
const UPLOAD_BODY = {
  content: {
    'application/x-ndjson': { schema: rows },
    'application/jsonl': { schema: rows },
    'text/plain': { schema: rows },
    'application/octet-stream': { schema: rows },
    'multipart/form-data': { schema: form },
  },
};

export async function datasetRoutes(
  app: HttpApp,
  { catalog, jobs, examples, quota, maxBytes }: DatasetRoutesOptions,
): Promise<void> {
  await app.register(uploadRoute, { catalog, jobs, quota, maxBytes });

  app.get(
    '/datasets',
    {
      schema: {
        operationId: 'listDatasets',
        summary: 'Datasets, newest first',
        tags,
        querystring: PageQuery,
        response: { 200: answer('One page.', DatasetPage), ...errorAnswers(400) },
      },
    },
    ({ query, caller }) => catalog.list({ after: query.after, limit: query.limit ?? 20 }, caller),
  );

  app.get(
    '/datasets/:id',
    {
      schema: {
        operationId: 'getDataset',
        summary: 'One dataset',
        tags,
        params: DatasetParams,
        response: { 200: answer('The dataset.', Dataset), ...errorAnswers(404) },
      },
    },
    ({ params }) => catalog.get(params.id),
  );

  app.delete(
    '/datasets/:id',
    {
      schema: {
        operationId: 'deleteDataset',
        summary: 'Delete a dataset that no unfinished job uses',
        tags,
        params: DatasetParams,
        response: { 204: noBody('Deleted.'), ...errorAnswers(404, 409, 503) },
      },
    },
    async ({ params, log }, reply) => {
      const { id } = await catalog.get(params.id);
      const users = await jobs.datasets.beginDeletion(id);
      if (users.length > 0) {
        const message = `${id} is used by ${users.slice(0, 5).join(', ')}. Cancel these jobs, or wait for them, first.`;
        throw new ProductError('in_use', message, { param: 'id' });
      }
      await catalog.delete(id);
      // What stays is removed by a worker's next sweep.
      await examples.removeDataset(id).catch((error: unknown) => log.warn({ err: error }, 'tokens were not removed'));
      return reply.code(204).send();
    },
  );
}

/** In a scope of its own: elsewhere a body is JSON and nothing else. */
async function uploadRoute(
  app: HttpApp,
  { catalog, jobs, quota, maxBytes }: Omit<DatasetRoutesOptions, 'examples'>,
): Promise<void> {
  app.removeAllContentTypeParsers();
  await app.register(multipart);
  app.addContentTypeParser(RAW_CONTENT_TYPES, (_request, payload, done) => done(null, payload));
  app.addContentTypeParser('*', (_request, _payload, done) => {
    const message = `Send the file as multipart/form-data or with the content type ${RAW_CONTENT_TYPES.slice(0, 3).join(', ')}.`;
    done(new ProductError('unsupported_media_type', message));
  });
  const uploads = createConcurrencyLimit('uploads of datasets');

  const store = async (request: FastifyRequest, name: string | null) => {
    const { caller, identity, limits } = request;
    const close = uploads.acquire(identity.key?.id ?? null, { own: limits.uploads, total: limits.totalUploads });
    const upload = quota.begin(caller.owner, {
      own: limits.datasetBytes,
      total: limits.totalDatasetBytes,
      things: { own: limits.datasets, total: limits.totalDatasets },
    });
    try {
      refuseEncodings(request.headers['content-encoding']);
      const source = uploadSourceOf(request, name, maxBytes);
      const chunks = upload.metered(source.chunks, source.declaredBytes);
      const stored = await catalog.add({ ...source, chunks }, caller.owner, upload.checkOneMore);
      // Without Redis no job can be made either, and in a minute it is allowed by itself.
      if (stored.created) await jobs.datasets.allow(stored.dataset.id).catch(ignoreWithoutRedis);
      return stored;
    } finally {
      close();
      await upload
        .end()
        .catch(() =>
          request.log.warn("an upload's reservation of the quota could not be released now; it expires later"),
        );
    }
  };

  app.post(
    '/datasets',
    {
      bodyLimit: maxBytes,
      config: { documentedBody: UPLOAD_BODY },
      schema: {
        operationId: 'uploadDataset',
        summary: 'Upload a dataset',
        description:
          'A JSONL file, one row per line, checked as it arrives: the body itself, or the part `file` of a form. ' +
          'The same bytes again, with the same key, are the same dataset (200 instead of 201).',
        tags,
        querystring: UploadQuery,
        response: {
          200: answer('It was there already.', Dataset),
          201: answer('Stored.', Dataset),
          ...errorAnswers(400, 413, 415, 422, 503, 507),
        },
      },
    },
    async (request, reply) => {
      const { dataset, created } = await store(request, request.query.name ?? null).catch(async (error: unknown) => {
        await endUpload(request, reply);
        throw error;
      });
      return await reply
        .code(created ? 201 : 200)
        .header('location', `/datasets/${dataset.id}`)
        .send(dataset);
    },
  );
}

function ignoreWithoutRedis(error: unknown): void {
  if (!(error instanceof ProductError) || error.code !== 'redis_unavailable') throw error;
}

function refuseEncodings(encoding: string | undefined): void {
  if (encoding === undefined || encoding === 'identity') return;
  throw new ProductError('unsupported_media_type', `Send the file uncompressed, without content-encoding ${encoding}.`);
}
