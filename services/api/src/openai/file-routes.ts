import { Readable } from 'node:stream';
import multipart from '@fastify/multipart';
import {
  closed,
  type Dataset,
  OpenaiFile,
  OpenaiFileDeleted,
  OpenaiFileList,
  ProductError,
} from '@lorasmith/contracts';
import { type HttpApp, onceClosed, untilClosed, uploadBroken } from '@lorasmith/service-kit';
import type { FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { type ConcurrencyLimit, endWhenStalled } from '../access/concurrency-limit.js';
import type { DatasetCatalog, DatasetChanges } from '../datasets/dataset-catalog.js';
import {
  ColumnsParameter,
  checkedName,
  columnsOf,
  formUploadOf,
  refuseEncodings,
  type UploadSource,
} from '../datasets/upload-source.js';
import { answer } from '../openapi/answers.js';
import { openaiErrorAnswers } from './openai-errors.js';
import { fileNotFound, fileOfDataset, type ResultFiles, resultFileSchema } from './openai-files.js';

export interface FileRoutesOptions {
  catalog: DatasetCatalog;
  changes: DatasetChanges;
  results: ResultFiles;
  /** Maximum bytes of an upload. */
  maxBytes: number;
  /** The limit of downloads and imports. */
  transfers: ConcurrencyLimit;
  /** A download is ended if its client reads no bytes for this time. */
  stallMs: number;
}

const tags = ['openai'];
const params = Type.Object({ id: Type.String({ maxLength: 200 }) }, closed);
/** The limit of the OpenAI API. */
const MAX_LISTED = 10_000;
const LISTED_PURPOSE = 'fine-tune';
const ListQuery = Type.Object(
  {
    purpose: Type.Optional(Type.String({ maxLength: 100, description: `Only ${LISTED_PURPOSE}.` })),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: MAX_LISTED, default: MAX_LISTED })),
    order: Type.Optional(Type.Enum(['asc', 'desc'], { default: 'desc', description: 'By time.' })),
    after: Type.Optional(Type.String({ maxLength: 64, description: 'Id of the last file of the previous page.' })),
  },
  closed,
);
const UploadQuery = Type.Object({ columns: Type.Optional(ColumnsParameter) }, closed);
const form = Type.Object({ file: Type.String({ format: 'binary' }), purpose: Type.Literal(LISTED_PURPOSE) });
const UPLOAD_BODY = { content: { 'multipart/form-data': { schema: form } } };

const listFiles = {
  schema: {
    operationId: 'listFiles',
    summary: 'The uploaded files: all datasets, also those of POST /datasets',
    tags,
    querystring: ListQuery,
    response: { 200: answer('A page of them.', OpenaiFileList), ...openaiErrorAnswers(400, 503) },
  },
};

const getFile = {
  schema: {
    operationId: 'getFile',
    summary: 'One file',
    tags,
    params,
    response: { 200: answer('The file.', OpenaiFile), ...openaiErrorAnswers(404, 503) },
  },
};

const downloadFile = {
  schema: {
    operationId: 'downloadFile',
    summary: 'The bytes of a file: the uploaded ones, or a CSV of the metrics of a job',
    tags,
    params,
    response: {
      200: {
        description: 'The bytes.',
        content: {
          'application/jsonl': { schema: Type.String() },
          'text/csv': { schema: Type.String() },
        },
      },
      ...openaiErrorAnswers(404, 503),
    },
  },
};

const deleteFile = {
  schema: {
    operationId: 'deleteFile',
    summary: 'Delete a file that no unfinished job uses',
    tags,
    params,
    response: { 200: answer('Deleted.', OpenaiFileDeleted), ...openaiErrorAnswers(404, 409, 503) },
  },
};

/** Datasets as files, and the metrics of jobs. */
export async function fileRoutes(app: HttpApp, options: FileRoutesOptions): Promise<void> {
  const { catalog, changes, results, transfers, stallMs } = options;
  await app.register(uploadRoute, options);

  const datasetOf = async (id: string): Promise<Dataset> => await catalog.get(id).catch(asFile(id));

  app.get('/files', listFiles, async ({ query, caller }) => {
    const { purpose = LISTED_PURPOSE, limit = MAX_LISTED, ...page } = query;
    if (purpose !== LISTED_PURPOSE) {
      const message = `Only files with the purpose ${LISTED_PURPOSE} are listed. Jobs name theirs in result_files.`;
      throw new ProductError('invalid_request', message, { param: 'purpose' });
    }
    const listed = await catalog.list({ ...page, limit }, caller);
    const data = listed.data.map(fileOfDataset);
    const ends = { first_id: data.at(0)?.id ?? null, last_id: data.at(-1)?.id ?? null };
    return { object: 'list' as const, data, ...ends, has_more: listed.has_more };
  });

  app.get('/files/:id', getFile, async ({ params: { id } }) =>
    resultFileSchema.Check(id) ? (await results.of(id)).file : fileOfDataset(await datasetOf(id)),
  );

  app.get('/files/:id/content', downloadFile, async (request, reply) => {
    const { id } = request.params;
    const asksForBytes = request.method !== 'HEAD';
    if (asksForBytes) {
      const { transfers: own, totalTransfers: total } = request.limits;
      onceClosed(reply.raw, transfers.acquire(request.identity.key?.id ?? null, { own, total }));
      endWhenStalled(request, reply, stallMs);
    }
    if (resultFileSchema.Check(id)) {
      const { content } = await results.of(id);
      return await reply.type('text/csv; charset=utf-8').send(content);
    }
    const { bytes } = await datasetOf(id);
    // Fastify would read the whole stream, and answer without a payload with a Content-Length of 0.
    const rows = asksForBytes ? await catalog.read(id).catch(asFile(id)) : Readable.from([]);
    return await reply.type('application/jsonl').header('content-length', bytes).send(rows);
  });

  app.delete('/files/:id', deleteFile, async ({ params: { id }, log }) => {
    if (resultFileSchema.Check(id)) {
      await results.of(id);
      throw new ProductError('in_use', `${id} belongs to a job, and is deleted with it: DELETE /jobs/:id.`);
    }
    await changes.delete(id, log).catch(asFile(id));
    return { id, object: 'file' as const, deleted: true as const };
  });
}

const createFile = {
  config: { documentedBody: UPLOAD_BODY },
  schema: {
    operationId: 'createFile',
    summary: 'Upload a file for training',
    description:
      'Any file of POST /datasets. It is checked while it arrives, and is a dataset with the same id. The same bytes again, with the same key, are the same file.',
    tags,
    querystring: UploadQuery,
    response: { 200: answer('Stored.', OpenaiFile), ...openaiErrorAnswers(400, 413, 415, 503, 504, 507) },
  },
};

/** The upload in its own scope, because all other routes accept only JSON. */
async function uploadRoute(app: HttpApp, { changes, maxBytes }: FileRoutesOptions): Promise<void> {
  app.removeAllContentTypeParsers();
  await app.register(multipart);
  app.addContentTypeParser('*', (_request, _payload, done) => {
    done(new ProductError('unsupported_media_type', 'Send the file and its purpose as multipart/form-data.'));
  });

  app.post('/files', { ...createFile, bodyLimit: maxBytes }, async (request, reply) => {
    const { caller, identity, limits, log } = request;
    if (!request.isMultipart()) throw new ProductError('invalid_request', 'The form has no file.', { param: 'file' });
    const described = { columns: columnsOf(request.query), signal: untilClosed(reply.raw, uploadBroken()) };
    const uploader = { owner: caller.owner, key: identity.key?.id ?? null, limits, log };
    const { dataset } = await changes.upload(() => openaiUploadOf(request, described, maxBytes), uploader);
    return fileOfDataset(dataset);
  });
}

/** Calls a missing dataset a missing file. */
function asFile(id: string): (error: unknown) => never {
  return (error) => {
    throw error instanceof ProductError && error.code === 'dataset_not_found' ? fileNotFound(id) : error;
  };
}

const FILE = 'file';
const PURPOSE = 'purpose';
const FINE_TUNE = 'fine-tune';
const MAX_FIELD_BYTES = 1_000;

/**
 * The file of a form as the OpenAI API takes it: the parts `file` and `purpose`, in any order.
 *
 * The chunks and the name throw ProductError as those of {@link formUploadOf}; `invalid_request` for another purpose;
 * `unknown_field` for a further part.
 */
export function openaiUploadOf(
  request: FastifyRequest,
  { columns, signal }: Pick<UploadSource, 'columns' | 'signal'>,
  maxBytes: number,
): UploadSource {
  refuseEncodings(request.headers['content-encoding']);
  let hasPurpose = false;
  const form = formUploadOf(request, {
    maxBytes,
    maxFieldBytes: MAX_FIELD_BYTES,
    fields: new Map([
      [
        PURPOSE,
        (purpose) => {
          checkPurpose(purpose);
          hasPurpose = true;
        },
      ],
    ]),
    unknownPart,
  });
  return {
    chunks: form.chunks,
    // The length of a form is not that of its file.
    declaredBytes: undefined,
    columns,
    signal,
    async name() {
      await form.readOn();
      if (!hasPurpose) throw new ProductError('invalid_request', 'purpose is missing.', { param: PURPOSE });
      const name = form.fileName();
      return name ? checkedName(name, FILE) : null;
    },
  };
}

function checkPurpose(purpose: string): void {
  if (purpose === FINE_TUNE) return;
  const message = `The purpose ${JSON.stringify(purpose.slice(0, 100))} is not supported: files are for ${FINE_TUNE}.`;
  throw new ProductError('invalid_request', message, { param: PURPOSE });
}

function unknownPart(param: string): ProductError {
  const message = param === FILE ? 'A form has one file.' : `The field ${param} is not supported.`;
  return new ProductError('unknown_field', message, { param });
}
