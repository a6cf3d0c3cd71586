import { type Static, type TSchema, Type } from 'typebox';
import { Fault } from './error.js';
import { closed, count, DatasetId, JobId, ModelName, Nullable } from './schema-parts.js';

// Fine-tuning jobs that move in from OpenAI, or from a service with its wire.

/** The address of OpenAI's API. */
export const OPENAI_BASE_URL = 'https://api.openai.com/v1';

const MAX_KEY_CHARACTERS = 512;
const MAX_ADDRESS_CHARACTERS = 2048;
/** The most jobs of one import. */
export const MAX_IMPORTED_JOBS = 1_000;
/** The most answers of one job's model that are recorded. */
export const MAX_RECORDED_ANSWERS = 1_000;
/** Limits, for docs/limits.md. */
export const openaiImportLimits = {
  jobs: { value: MAX_IMPORTED_JOBS, unit: 'jobs', beyond: '400 `invalid_request`' },
  answers: { value: MAX_RECORDED_ANSWERS, unit: 'answers of a job', beyond: '400 `invalid_request`' },
};

/** The id of a job or a file of the other service, which becomes a tag here. */
export const SOURCE_ID_PATTERN = '^[A-Za-z0-9][A-Za-z0-9._:-]{0,39}$';
const SourceId = Type.String({ pattern: SOURCE_ID_PATTERN, examples: ['ftjob-abc123'] });

/** The characters that a header can carry. */
export const SOURCE_KEY_PATTERN = `^[\\x21-\\x7e]{1,${MAX_KEY_CHARACTERS}}$`;

/** Body of `POST /imports/openai`. */
export const OpenaiImportRequest = Type.Object(
  {
    base_model: Type.String({ ...ModelName, description: 'The base model on which the jobs are trained here.' }),
    api_key: Type.Optional(
      Nullable(Type.String({ pattern: SOURCE_KEY_PATTERN }), {
        description: 'The key of the other service. It is used for this call alone and stored nowhere.',
      }),
    ),
    base_url: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: MAX_ADDRESS_CHARACTERS,
        default: OPENAI_BASE_URL,
        description: 'The address of the other service. The operator allows those that may be named.',
      }),
    ),
    jobs: Type.Optional(
      Type.Array(SourceId, {
        minItems: 1,
        maxItems: MAX_IMPORTED_JOBS,
        uniqueItems: true,
        description: 'Ids of jobs there. Default: all that have succeeded.',
      }),
    ),
    record_answers: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: MAX_RECORDED_ANSWERS,
        description: 'Ask the old model so many prompts of the validation file, and store its answers as a dataset.',
      }),
    ),
    dry_run: Type.Optional(
      Type.Boolean({ default: false, description: 'Only list the plans. Nothing is fetched or stored.' }),
    ),
  },
  {
    $id: 'OpenaiImportRequest',
    ...closed,
    examples: [{ base_model: 'SmolLM2-135M-Instruct', api_key: 'sk-…', dry_run: true }],
  },
);
export type OpenaiImportRequest = Static<typeof OpenaiImportRequest>;

/** A file of the other service. */
export const ImportedFile = Type.Object(
  {
    id: SourceId,
    name: Nullable(Type.String(), { description: 'Its name there, if it can still be read.' }),
    bytes: Nullable(Type.Integer({ minimum: 0 })),
    dataset: Nullable(DatasetId, { description: 'The dataset here; null until it is stored.' }),
  },
  { $id: 'ImportedFile', ...closed },
);
export type ImportedFile = Static<typeof ImportedFile>;

const orAuto = (description: string) => Type.Union([Type.Number(), Type.Literal('auto')], { description });

/** The settings of a job there, as they are taken over. */
export const ImportedSettings = Type.Object(
  {
    method: Type.Enum(['supervised', 'dpo', 'reinforcement']),
    n_epochs: orAuto('auto: chosen here from the rows.'),
    batch_size: orAuto('Rows of a step.'),
    learning_rate: orAuto('The rate here, not the multiplier.'),
    seed: Nullable(Type.Integer()),
    name: Nullable(Type.String(), { description: 'From the suffix of the model.' }),
  },
  { $id: 'ImportedSettings', ...closed },
);
export type ImportedSettings = Static<typeof ImportedSettings>;

const IMPORT_OUTCOMES = ['planned', 'posted', 'imported', 'skipped', 'failed'] as const;

/** A job of the other service, and the job that it is here. */
export const ImportedJob = Type.Object(
  {
    id: SourceId,
    model: Type.String({ description: 'The base model there.' }),
    fine_tuned_model: Nullable(Type.String()),
    status: Type.String({ description: 'Its status there.' }),
    base_model: ModelName,
    training_file: ImportedFile,
    validation_file: Nullable(ImportedFile),
    settings: Nullable(ImportedSettings, { description: 'Null if it cannot be taken over.' }),
    differs: Type.Array(Type.String(), { description: 'What is not as it was there, a sentence each.' }),
    outcome: Type.Enum([...IMPORT_OUTCOMES], {
      description:
        'planned: it can be posted. posted: by this import. imported: by an earlier one. skipped: it has not succeeded there, and was not named. failed: see error.',
    }),
    job: Nullable(JobId, { description: 'The job here.' }),
    answers: Nullable(DatasetId, { description: 'The recorded answers of its model.' }),
    no_answers: Nullable(Type.String(), { description: 'Why none were recorded, where they were asked for.' }),
    error: Nullable(Type.Object({ code: Type.String(), message: Type.String(), details: Type.Array(Fault) }, closed)),
  },
  { $id: 'ImportedJob', ...closed },
);
export type ImportedJob = Static<typeof ImportedJob>;

const event = <Name extends string, Fields extends Record<string, TSchema>>(type: Name, fields: Fields) =>
  Type.Object({ type: Type.Literal(type), ...fields }, closed);

/** An event of an import. */
export const OpenaiImportEvent = Type.Union(
  [
    event('job-planned', { job: ImportedJob }),
    event('file-stored', { file: ImportedFile }),
    event('answers-progressed', { job: SourceId, answered: count('So far.'), total: count('Prompts.') }),
    event('job-ended', { job: ImportedJob }),
    event('import-ended', {
      dry_run: Type.Boolean(),
      planned: count('Jobs that can be posted; 0 unless it is a dry run.'),
      posted: count('Jobs that this import posted.'),
      imported: count('Jobs that an earlier import had posted.'),
      skipped: count('Jobs that have not succeeded there.'),
      failed: count('Jobs that cannot be posted.'),
    }),
    event('import-failed', {
      error: Type.Object({ code: Type.String(), message: Type.String(), details: Type.Array(Fault) }, closed),
    }),
  ],
  { $id: 'OpenaiImportEvent' },
);
export type OpenaiImportEvent = Static<typeof OpenaiImportEvent>;
export type ImportEnd = Extract<OpenaiImportEvent, { type: 'import-ended' }>;
