import { type Static, type TSchema, Type } from 'typebox';
import { Grader } from './grading.js';
import { jobMetadata } from './job.js';
import { ResultFileId } from './openai.js';
import { PREFERENCE_LEARNING_RATE, PreferenceObjective } from './preference.js';
import { closed, DatasetId, JobId, Label, ModelName, Nullable } from './schema-parts.js';

// Fine-tuning jobs as the OpenAI API has them. As there, null means the default.

const optional = <Schema extends TSchema>(schema: Schema, description: string) =>
  Type.Optional(Nullable(schema, { description }));
/** A field that only says that a thing is not used. Anything else is refused by its name. */
const unused = (description: string) => Type.Optional(Type.Unknown({ description }));

const orAuto = <Schema extends TSchema>(schema: Schema, description: string) =>
  Type.Optional(Type.Union([Type.Literal('auto'), schema], { description }));

/** The learning rate at a `learning_rate_multiplier` of 1, which is the default of a job. */
export const UNIT_LEARNING_RATE = 1e-4;

const FineTuningHyperparameters = Type.Object(
  {
    n_epochs: orAuto(
      Type.Integer({ minimum: 1, maximum: 50 }),
      'Passes over the data. auto: 3; up to 10 for a small file, so that there are 100 steps; fewer for one of more than 8,333 rows.',
    ),
    batch_size: orAuto(
      Type.Integer({ minimum: 1, maximum: 256 }),
      'Rows per step. auto: 8; 4, 2 or 1 for a file of fewer than 128, 64 or 32 rows.',
    ),
    learning_rate_multiplier: orAuto(
      Type.Number({ exclusiveMinimum: 0, maximum: 10_000 }),
      `The learning rate is this times ${UNIT_LEARNING_RATE}. auto: 1; up to 2 for fewer than 200 steps.`,
    ),
  },
  { $id: 'FineTuningHyperparameters', ...closed },
);
export type FineTuningHyperparameters = Static<typeof FineTuningHyperparameters>;

const DpoHyperparameters = Type.Object(
  {
    beta: orAuto(
      PreferenceObjective.properties.beta,
      'How close the model stays to the one that it began as: the larger, the closer. auto: 0.1.',
    ),
    n_epochs: FineTuningHyperparameters.properties.n_epochs,
    batch_size: FineTuningHyperparameters.properties.batch_size,
    learning_rate_multiplier: orAuto(
      Type.Number({ exclusiveMinimum: 0, maximum: 10_000 }),
      `The learning rate is this times ${PREFERENCE_LEARNING_RATE}. auto: 1; for fewer than 1,911 steps more, up to 40, so that the rate times the steps stays the same.`,
    ),
  },
  { $id: 'DpoHyperparameters', ...closed },
);
export type DpoHyperparameters = Static<typeof DpoHyperparameters>;

/** Body of `POST /v1/fine_tuning/jobs`. */
export const FineTuningRequest = Type.Object(
  {
    model: Type.String({
      minLength: 1,
      maxLength: 200,
      description: 'The name of a base model; or a fine-tuned model, which is then trained further.',
    }),
    training_file: Type.String({ minLength: 1, maxLength: 200, description: 'The id of an uploaded file.' }),
    validation_file: optional(
      Type.String({ minLength: 1, maxLength: 200 }),
      'The id of an uploaded file, on which the model is evaluated before and after training.',
    ),
    suffix: optional(Label(64), 'A part of the name of the fine-tuned model, and the name of the job.'),
    seed: optional(Type.Integer({ minimum: 0, maximum: 4_294_967_295 }), 'Default: 42.'),
    metadata: Type.Optional(Nullable(jobMetadata)),
    method: optional(
      Type.Object(
        {
          type: Type.String({ maxLength: 100, description: 'supervised or dpo.' }),
          supervised: Type.Optional(Type.Object({ hyperparameters: Type.Optional(FineTuningHyperparameters) }, closed)),
          dpo: Type.Optional(Type.Object({ hyperparameters: Type.Optional(DpoHyperparameters) }, closed)),
          reinforcement: unused('Not supported.'),
        },
        closed,
      ),
      'How it is trained.',
    ),
    hyperparameters: optional(
      FineTuningHyperparameters,
      'The older place of `method.supervised.hyperparameters`, without `beta` also of those of dpo.',
    ),
    integrations: unused('Not supported: only null or an empty list.'),
  },
  {
    $id: 'FineTuningRequest',
    ...closed,
    examples: [
      {
        model: 'SmolLM2-135M-Instruct',
        training_file: 'ds_0123456789abcdef01234567',
        suffix: 'support-tone',
        method: { type: 'supervised', supervised: { hyperparameters: { n_epochs: 3 } } },
      },
    ],
  },
);
export type FineTuningRequest = Static<typeof FineTuningRequest>;

const time = Type.Integer({ description: 'Unix time in seconds.' });
const fineTunedModel = (description: string) => Nullable(Type.String(), { description });

export const FINE_TUNING_STATUSES = [
  'validating_files',
  'queued',
  'running',
  'succeeded',
  'failed',
  'cancelled',
  'paused',
] as const;

const hyperparameters = Type.Object(
  { n_epochs: Type.Number(), batch_size: Type.Integer(), learning_rate_multiplier: Type.Number() },
  closed,
);

const ofDpo = Type.Object({ beta: Type.Number(), ...hyperparameters.properties }, closed);

/** A job, as the OpenAI API has it. */
export const FineTuningJob = Type.Object(
  {
    id: JobId,
    object: Type.Literal('fine_tuning.job'),
    created_at: time,
    finished_at: Nullable(time, { description: 'When it succeeded, failed or was cancelled.' }),
    estimated_finish: Nullable(time, { description: 'Null while it is unknown, and once the job has ended.' }),
    model: ModelName,
    fine_tuned_model: fineTunedModel('The name to use in chats, once the job has succeeded.'),
    organization_id: Type.String({ description: 'The id of the key; `lorasmith` without one.' }),
    status: Type.Enum(FINE_TUNING_STATUSES, {
      description: 'validating_files: a worker loads the model and tokenizes the rows.',
    }),
    training_file: DatasetId,
    validation_file: Nullable(DatasetId),
    result_files: Type.Array(ResultFileId, { description: 'Once the job has succeeded, a CSV of its metrics.' }),
    trained_tokens: Nullable(Type.Integer(), {
      description: 'Tokens that were read in training, once the job has succeeded. Null if its adapter was deleted.',
    }),
    hyperparameters,
    method: Type.Union([
      Type.Object({ type: Type.Literal('supervised'), supervised: Type.Object({ hyperparameters }, closed) }, closed),
      Type.Object({ type: Type.Literal('dpo'), dpo: Type.Object({ hyperparameters: ofDpo }, closed) }, closed),
      Type.Object(
        {
          type: Type.Literal('reinforcement'),
          reinforcement: Type.Object({ grader: Grader, hyperparameters }, closed),
        },
        { ...closed, description: 'Of a job of POST /jobs whose answers are graded.' },
      ),
    ]),
    seed: Type.Integer(),
    user_provided_suffix: Nullable(Type.String()),
    metadata: jobMetadata,
    integrations: Type.Array(Type.Null(), { maxItems: 0 }),
    error: Nullable(
      Type.Object({ code: Type.String(), message: Type.String(), param: Nullable(Type.String()) }, closed),
      { description: 'Why the job failed.' },
    ),
  },
  { $id: 'FineTuningJob', ...closed },
);
export type FineTuningJob = Static<typeof FineTuningJob>;

export const FineTuningJobList = Type.Object(
  { object: Type.Literal('list'), data: Type.Array(FineTuningJob), has_more: Type.Boolean() },
  { $id: 'FineTuningJobList', ...closed },
);

/** An event of a job, as the OpenAI API has it. */
export const FineTuningEvent = Type.Object(
  {
    id: Type.String({ description: 'Unique among the events of the job.' }),
    object: Type.Literal('fine_tuning.job.event'),
    created_at: time,
    level: Type.Enum(['info', 'warn', 'error']),
    message: Type.String(),
    type: Type.Enum(['message', 'metrics']),
    data: Type.Record(Type.String(), Type.Unknown(), { description: 'Numbers of a step or an evaluation.' }),
  },
  { $id: 'FineTuningEvent', ...closed },
);
export type FineTuningEvent = Static<typeof FineTuningEvent>;

export const FineTuningEventList = Type.Object(
  { object: Type.Literal('list'), data: Type.Array(FineTuningEvent), has_more: Type.Boolean() },
  { $id: 'FineTuningEventList', ...closed },
);

/** A stored checkpoint of a job, as the OpenAI API has it. */
export const FineTuningCheckpoint = Type.Object(
  {
    id: Type.String(),
    object: Type.Literal('fine_tuning.job.checkpoint'),
    created_at: time,
    fine_tuning_job_id: JobId,
    fine_tuned_model_checkpoint: Type.String({
      description: 'A name for it. It can be used in chats once the checkpoint is published.',
    }),
    step_number: Type.Integer(),
    metrics: Type.Object(
      {
        step: Type.Integer(),
        train_loss: Type.Number(),
        full_valid_loss: Type.Optional(Type.Number({ description: 'Absent without an evaluation.' })),
      },
      closed,
    ),
  },
  { $id: 'FineTuningCheckpoint', ...closed },
);
export type FineTuningCheckpoint = Static<typeof FineTuningCheckpoint>;

export const FineTuningCheckpointList = Type.Object(
  {
    object: Type.Literal('list'),
    data: Type.Array(FineTuningCheckpoint),
    first_id: Nullable(Type.String()),
    last_id: Nullable(Type.String()),
    has_more: Type.Boolean(),
  },
  { $id: 'FineTuningCheckpointList', ...closed },
);
