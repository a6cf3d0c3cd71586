import { type Static, Type } from 'typebox';
import { closed, DatasetId, type JobId, ModelName, Nullable } from './schema-parts.js';

/** A model that can be named in a request: an adapter, or a base model. */
export const OpenaiModel = Type.Object(
  {
    id: Type.String({
      description:
        'Of an adapter, `ft:<base model>:lorasmith:<suffix>:<adapter id>`, where the suffix comes from its name; or a name that points to one.',
    }),
    object: Type.Literal('model'),
    created: Type.Integer({ description: 'Unix time in seconds: for a name, of its last move. 0 for a base model.' }),
    owned_by: Type.String({ description: "The id of the adapter's key; `lorasmith` for all else." }),
    parent: Nullable(ModelName, { description: 'The base model of an adapter; null for a base model.' }),
  },
  { $id: 'OpenaiModel', ...closed },
);
export type OpenaiModel = Static<typeof OpenaiModel>;

export const OpenaiModelList = Type.Object(
  { object: Type.Literal('list'), data: Type.Array(OpenaiModel) },
  { $id: 'OpenaiModelList', ...closed },
);

export const OpenaiModelDeleted = Type.Object(
  { id: Type.String(), object: Type.Literal('model'), deleted: Type.Literal(true) },
  { $id: 'OpenaiModelDeleted', ...closed },
);

/** The body of every answer under `/v1` with a status of 4xx or 5xx. */
export const OpenaiErrorBody = Type.Object(
  {
    error: Type.Object(
      {
        message: Type.String({ description: 'Says what happened and what to do.' }),
        type: Type.Enum(['invalid_request_error', 'rate_limit_error', 'server_error']),
        param: Nullable(Type.String()),
        code: Type.String({ description: 'Stable code of the error.' }),
      },
      closed,
    ),
  },
  { $id: 'OpenaiErrorBody', ...closed },
);
export type OpenaiErrorBody = Static<typeof OpenaiErrorBody>;

/** The purposes of files: `fine-tune` for uploads, `fine-tune-results` for what a fine-tuning job writes. */
export const FILE_PURPOSES = ['fine-tune', 'fine-tune-results'] as const;

/** The id of the file with the metrics of a job: that of the job, with another prefix. */
export const ResultFileId = Type.String({
  pattern: '^res_[0-9a-z]{24}$',
  description: 'The metrics of a fine-tuning job.',
  examples: ['res_0123456789abcdef01234567'],
});
export type ResultFileId = Static<typeof ResultFileId>;

export const resultFileOf = (job: JobId): ResultFileId => job.replace(/^job_/, 'res_');
export const jobOfResultFile = (file: ResultFileId): JobId => file.replace(/^res_/, 'job_');

/** A file, which is a dataset, or the metrics of a job. */
export const OpenaiFile = Type.Object(
  {
    id: Type.String({ description: 'Of a dataset (`ds_…`), or of the metrics of a job (`res_…`).' }),
    object: Type.Literal('file'),
    bytes: Type.Integer({ minimum: 0 }),
    created_at: Type.Integer({ description: 'Unix time in seconds.' }),
    filename: Type.String(),
    purpose: Type.Enum(FILE_PURPOSES),
    status: Type.Literal('processed', { description: 'A file is checked while it is uploaded.' }),
    status_details: Nullable(Type.String(), {
      description: 'What the upload mapped or left out in the rows; null if nothing.',
    }),
  },
  { $id: 'OpenaiFile', ...closed },
);
export type OpenaiFile = Static<typeof OpenaiFile>;

export const OpenaiFileList = Type.Object(
  {
    object: Type.Literal('list'),
    data: Type.Array(OpenaiFile),
    first_id: Type.Union([DatasetId, Type.Null()]),
    last_id: Type.Union([DatasetId, Type.Null()]),
    has_more: Type.Boolean(),
  },
  { $id: 'OpenaiFileList', ...closed },
);

export const OpenaiFileDeleted = Type.Object(
  { id: DatasetId, object: Type.Literal('file'), deleted: Type.Literal(true) },
  { $id: 'OpenaiFileDeleted', ...closed },
);
