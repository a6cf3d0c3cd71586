import { type Static, Type } from 'typebox';
import { closed, DatasetId, type JobId, Nullable } from './schema-parts.js';

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
