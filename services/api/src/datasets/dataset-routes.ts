import multipart from '@fastify/multipart';
import {
  closed,
  Dataset,
  DatasetPage,
  DatasetQuery,
  DatasetRowPage,
  DatasetRowsQuery,
  DatasetTokens,
  DetailsChange,
  Label,
  MAX_NAME_CHARACTERS,
  ModelName,
  ProductError,
  TrainingSettings,
  type UploadedDataset,
} from '@lorasmith/contracts';
import { type HttpApp, untilClosed, uploadBroken } from '@lorasmith/service-kit';
import { type Static, Type } from 'typebox';
import { Value } from 'typebox/value';
import type { Preflight } from '../jobs/preflight.js';
import { answer, errorAnswers, noBody } from '../openapi/answers.js';
import type { DatasetCatalog, DatasetChanges } from './dataset-catalog.js';
import { type LeaseSources, withLeases, withRows } from './file-leases.js';
import type { TokenPreparations } from './token-preparations.js';
import { ColumnsParameter, columnsOf, RAW_CONTENT_TYPES, uploadSourceOf, withCurlHint } from './upload-source.js';

interface DatasetRoutesOptions {
  catalog: DatasetCatalog;
  changes: DatasetChanges;
  preparations: Pick<TokenPreparations, 'checkModel' | 'start' | 'status'>;
  views: RowViews;
  maxBytes: number;
}

const tags = ['datasets'];
const DatasetParams = Type.Object({ id: Type.String({ maxLength: 200 }) }, closed);
const UploadQuery = Type.Object(
  {
    name: Type.Optional(Label(MAX_NAME_CHARACTERS, 'A name of your choice.')),
    columns: Type.Optional(ColumnsParameter),
    base_model: Type.Optional(
      Type.String({
        ...ModelName,
        description:
          'Tokenize the rows for this base model in the background, so that a first job on it starts sooner.',
      }),
    ),
  },
  closed,
);
const TokensQuery = Type.Object({ base_model: ModelName }, closed);

const rows = Type.String({
  description: 'One JSON object per line.',
  examples: ['{"prompt": "the third of March, 2011", "completion": "2011-03-03"}\n'],
});
const binary = Type.String({ format: 'binary' });
const form = Type.Object({ file: binary, name: Type.Optional(Type.String()) });
const UPLOAD_BODY = {
  content: {
    'application/x-ndjson': { schema: rows },
    'application/jsonl': { schema: rows },
    'text/plain': { schema: rows },
    'application/octet-stream': { schema: rows },
    'text/csv': { schema: Type.String() },
    'application/vnd.apache.parquet': { schema: binary },
    'application/gzip': { schema: binary },
    'application/zstd': { schema: binary },
    'multipart/form-data': { schema: form },
  },
};

const listDatasets = {
  schema: {
    operationId: 'listDatasets',
    summary: 'Datasets, newest first unless sorted otherwise, with the number of those that match',
    tags,
    querystring: DatasetQuery,
    response: { 200: answer('One page.', DatasetPage), ...errorAnswers(400, 503) },
  },
};

const getDataset = {
  schema: {
    operationId: 'getDataset',
    summary: 'One dataset',
    tags,
    params: DatasetParams,
    response: { 200: answer('The dataset.', Dataset), ...errorAnswers(404) },
  },
};

const changeDataset = {
  schema: {
    operationId: 'changeDataset',
    summary: 'Change the name, tags or note of a dataset; its rows never change',
    tags,
    params: DatasetParams,
    body: DetailsChange,
    response: { 200: answer('The changed dataset.', Dataset), ...errorAnswers(404, 503, 507) },
  },
};

const getDatasetTokens = {
  schema: {
    operationId: 'getDatasetTokens',
    summary: 'Whether a dataset is stored as tokens of a base model',
    tags,
    params: DatasetParams,
    querystring: TokensQuery,
    response: { 200: answer('Its state.', DatasetTokens), ...errorAnswers(400, 404, 422, 503, 504) },
  },
};

const listDatasetRows = {
  schema: {
    operationId: 'listDatasetRows',
    summary: 'Rows of a dataset, as they were uploaded and as a model sees them',
    description:
      'With `base_model`: their tokens, and which of them a job with these settings trains. A page may have fewer ' +
      'rows than `limit`: it ends with a row that is long.',
    tags,
    params: DatasetParams,
    querystring: DatasetRowsQuery,
    response: { 200: answer('A page of them.', DatasetRowPage), ...errorAnswers(400, 404, 422, 503, 504) },
  },
};

const deleteDataset = {
  schema: {
    operationId: 'deleteDataset',
    summary: 'Delete a dataset that no unfinished job uses',
    tags,
    params: DatasetParams,
    response: { 204: noBody('Deleted.'), ...errorAnswers(404, 409, 503) },
  },
};

export async function datasetRoutes(
  app: HttpApp,
  { catalog, changes, preparations, views, maxBytes }: DatasetRoutesOptions,
): Promise<void> {
  await app.register(uploadRoute, { changes, preparations, maxBytes });

  app.get('/datasets', listDatasets, ({ query, caller }) =>
    catalog.search({ ...query, limit: query.limit ?? 20 }, caller),
  );

  app.get('/datasets/:id', getDataset, ({ params }) => catalog.get(params.id));

  app.patch('/datasets/:id', changeDataset, async ({ params, body, log }) => {
    const dataset = await catalog.changeDetails(params.id, body);
    log.info({ dataset: dataset.id, fields: Object.keys(body) }, 'dataset changed');
    return dataset;
  });

  app.get('/datasets/:id/tokens', getDatasetTokens, ({ params, query }) =>
    preparations.status(params.id, query.base_model),
  );

  app.get('/datasets/:id/rows', listDatasetRows, ({ params, query }) => views.page(params.id, query));

  app.delete('/datasets/:id', deleteDataset, async ({ params, log }, reply) => {
    await changes.delete(params.id, log);
    return reply.code(204).send();
  });
}

const uploadDataset = {
  config: { documentedBody: UPLOAD_BODY },
  schema: {
    operationId: 'uploadDataset',
    summary: 'Upload a dataset',
    description:
      'JSONL, one row per line, a JSON array of rows, CSV or Parquet, also compressed with gzip or zstd: the body itself, ' +
      'or the part `file` of a form. Its bytes say what it is. ' +
      'The same bytes again, with the same key, are the same dataset (200 instead of 201).',
    tags,
    querystring: UploadQuery,
    response: {
      200: answer('It already existed.', Dataset),
      201: answer('Stored.', Dataset),
      ...errorAnswers(400, 404, 413, 415, 422, 503, 504, 507),
    },
  },
};

/** The upload in its own scope, because all other routes accept only JSON. */
async function uploadRoute(
  app: HttpApp,
  { changes, preparations, maxBytes }: Omit<DatasetRoutesOptions, 'catalog' | 'views'>,
): Promise<void> {
  app.removeAllContentTypeParsers();
  await app.register(multipart);
  app.addContentTypeParser(RAW_CONTENT_TYPES, (_request, payload, done) => done(null, payload));
  app.addContentTypeParser('*', (request, payload, done) => {
    // Nothing is said of the bytes, so they are looked at.
    if (request.headers['content-type'] === undefined) {
      done(null, payload);
      return;
    }
    const message = `Send the file as multipart/form-data or with the content type ${RAW_CONTENT_TYPES.slice(0, 3).join(', ')}.`;
    done(new ProductError('unsupported_media_type', message));
  });

  app.post('/datasets', { ...uploadDataset, bodyLimit: maxBytes }, async (request, reply) => {
    const { caller, identity, limits, log, query } = request;
    const { name = null } = query;
    const columns = columnsOf(query);
    const signal = untilClosed(reply.raw, uploadBroken());
    const source = () => uploadSourceOf(request, { name, columns, signal }, maxBytes);
    const uploader = { owner: caller.owner, key: identity.key?.id ?? null, limits, log };
    const { base_model: baseModel } = query;
    if (baseModel !== undefined) await preparations.checkModel(baseModel);
    const { dataset, created } = await changes.upload(source, uploader).catch((error: unknown) => {
      throw withCurlHint(error, request.headers['content-type']);
    });
    if (baseModel !== undefined) preparations.start(dataset, baseModel);
    return await reply
      .code(created ? 201 : 200)
      .header('location', `/datasets/${dataset.id}`)
      .send(dataset);
  });
}

interface RowViewsOptions extends LeaseSources {
  catalog: Pick<DatasetCatalog, 'uploaded' | 'lease'>;
  preflight: Pick<Preflight, 'viewRows'>;
  preparations: Pick<TokenPreparations, 'checkModel'>;
}

export interface RowViews {
  /**
   * A page of the rows, as they were uploaded and as tokens of a base model.
   * @throws ProductError `dataset_not_found`, `model_not_found`, `invalid_request`, `dataset_format_mismatch`, `timeout`,
   * `service_unavailable`; why the model cannot be trained
   */
  page(dataset: string, query: DatasetRowsQuery): Promise<DatasetRowPage>;
}

const DEFAULT_LIMIT = 20;
const { max_seq_length, on_overflow, completion_format } = TrainingSettings.properties;
const RowSettings = Type.Object({ max_seq_length, on_overflow, completion_format });
type RowSettings = Static<typeof RowSettings>;
type Page = Required<Pick<DatasetRowsQuery, 'after' | 'limit'>>;

export function createRowViews(options: RowViewsOptions): RowViews {
  const { catalog, preflight, preparations } = options;

  const asUploaded = (dataset: UploadedDataset, page: Page) =>
    withLeases(options, async (leases) => {
      const rowsFile = await leases.rowsFile(dataset);
      return await preflight.viewRows({ dataset, rowsFile, ...page, encoding: null });
    });

  const asTokens = async (dataset: UploadedDataset, page: Page, baseModel: string, settings: RowSettings) => {
    await preparations.checkModel(baseModel);
    return await withRows(options, { dataset, baseModel }, ({ modelsDir, rowsFile }) =>
      preflight.viewRows({ dataset, rowsFile, ...page, encoding: { modelsDir, baseModel, settings } }),
    );
  };

  return {
    async page(id, { limit = DEFAULT_LIMIT, after = 0, base_model: baseModel, ...settings }) {
      const [unused] = baseModel === undefined ? Object.keys(settings) : [];
      if (unused !== undefined) {
        const message = `${unused} needs base_model: without a model, rows have no tokens.`;
        throw new ProductError('invalid_request', message, { param: unused });
      }
      const dataset = await catalog.uploaded(id);
      const rows = { after, limit };
      const viewed =
        baseModel === undefined
          ? await asUploaded(dataset, rows)
          : await asTokens(dataset, rows, baseModel, Value.Default(RowSettings, settings) as RowSettings);
      const next = viewed.has_more ? viewed.data.at(-1)!.line : null;
      return { object: 'dataset_rows', dataset: id, base_model: baseModel ?? null, ...viewed, next };
    },
  };
}
