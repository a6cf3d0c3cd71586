import { type Static, type TSchema, Type } from 'typebox';
import { AdapterReference } from './alias-name.js';
import { CheckpointReference } from './checkpoint.js';
import { JobDeliveries } from './delivery.js';
import { initialDetails, MAX_NAME_CHARACTERS, ownDetails } from './details.js';
import { Fault } from './error.js';
import { GROUP_BATCH } from './group-relative.js';
import { JobObjective, ObjectiveRequest } from './objective.js';
import { CountedPage } from './page.js';
import { PREFERENCE_LEARNING_RATE } from './preference.js';
import { Report } from './report.js';
import { SampleRequest, SampleSettings } from './samples.js';
import {
  AdapterId,
  COMPLETION_FORMATS,
  closed,
  DatasetId,
  DEFAULT_COMPLETION_FORMAT,
  JobId,
  Label,
  ModelName,
  Nullable,
  Owner,
  SweepId,
} from './schema-parts.js';

/** The maximum rank of a job, and of an imported adapter. */
export const MAX_RANK = 512;
const rankBounds = { minimum: 1, maximum: MAX_RANK };
/** The ways to handle a row that is too long. */
export const ON_OVERFLOW = ['error', 'drop', 'truncate', 'split'] as const;
/** Maximum steps of a job, and of every interval in steps. */
const MAX_STEPS = 10_000_000;
export const MAX_ACCUMULATION_STEPS = 4096;
/** Maximum of `training.max_seq_length`. */
export const MAX_SEQ_LENGTH = 1_048_576;
const MAX_MODULE_NAMES = 4096;
const MAX_MODULE_NAME_CHARACTERS = 256;
const MAX_MODULE_PATTERN_CHARACTERS = 1024;
/** Limits, for docs/limits.md. */
export const jobLimits = {
  rank: { value: MAX_RANK, unit: '', beyond: '400 `invalid_request`' },
  importedRank: { value: MAX_RANK, unit: '', beyond: '422 `invalid_adapter`' },
  sequence: {
    value: MAX_SEQ_LENGTH,
    unit: "tokens, and never more than the model's positions",
    beyond: '400 `invalid_request`; 422 `row_too_long` for a row that needs more, unless `on_overflow` says otherwise',
  },
  moduleNames: {
    value: MAX_MODULE_NAMES,
    unit: `names of up to ${MAX_MODULE_NAME_CHARACTERS} characters`,
    beyond: '400 `invalid_request`',
  },
  modulePattern: { value: MAX_MODULE_PATTERN_CHARACTERS, unit: 'characters', beyond: '400 `invalid_request`' },
};
const alphaBounds = { exclusiveMinimum: 0, maximum: 4096 };

const moduleName = Type.String({ minLength: 1, maxLength: MAX_MODULE_NAME_CHARACTERS });
// The number of layers in the largest models: a job that continues an adapter may have to name each of them.
const moduleNames = (minItems: number) => Type.Array(moduleName, { minItems, maxItems: MAX_MODULE_NAMES });
const moduleExpression = Type.String({ minLength: 1, maxLength: MAX_MODULE_PATTERN_CHARACTERS });

const TargetModules = Type.Union([moduleNames(0), moduleExpression], {
  default: 'all-linear',
  description:
    'A list of name suffixes, "all-linear" (every linear layer except the output head), or a regular ' +
    'expression that must match the whole module name. The output head is adapted where it is named (lm_head). ' +
    'An empty list adapts target_parameters alone.',
});

const TargetParameters = Type.Optional(
  Type.Array(moduleName, {
    minItems: 1,
    maxItems: MAX_MODULE_NAMES,
    description:
      'Adapt the experts of a mixture too: names of their parameters or ends of these names, such as ' +
      'mlp.experts.gate_up_proj and mlp.experts.down_proj. Each expert has an A and B of its own. Needs dropout 0. ' +
      'exclude_modules and layers_to_transform do not apply to them.',
  }),
);

/** `additionalProperties: false` refuses keys with line breaks, which the pattern of a record does not match. */
const modulePattern = <Value extends TSchema>(value: Value, description: string) =>
  Type.Record(Type.String(), value, { ...closed, maxProperties: 4096, default: {}, description });

const INIT_FROM =
  'Train this adapter further. Its r, alpha, use_rslora, patterns and layers are used; leave these fields out, or send the same values.';

/** LoRA settings (Hu et al. 2021, arXiv:2106.09685). Names and defaults are those of PEFT's LoraConfig, if it has them. */
export const LoraSettings = Type.Object(
  {
    r: Type.Integer({ ...rankBounds, default: 8, description: 'Rank of A and B.' }),
    alpha: Type.Number({ ...alphaBounds, default: 16, description: 'The update is scaled by alpha / r.' }),
    dropout: Type.Number({ minimum: 0, exclusiveMaximum: 1, default: 0, description: 'Dropout on the input of A.' }),
    target_modules: TargetModules,
    target_parameters: TargetParameters,
    exclude_modules: Type.Union([moduleNames(1), moduleExpression, Type.Null()], {
      default: null,
      description:
        'Layers to leave out although target_modules selects them: a list of name suffixes, or a regular ' +
        'expression that must match the whole module name.',
    }),
    layers_to_transform: Nullable(
      Type.Array(Type.Integer({ minimum: 0, maximum: 4095 }), { minItems: 1, maxItems: 4096 }),
      {
        default: null,
        description:
          'Only the blocks with these numbers, from 0. Works with a target_modules list or all-linear; it does not ' +
          'apply to modules named in full.',
      },
    ),
    rank_pattern: modulePattern(
      Type.Integer(rankBounds),
      'Other ranks for some modules: a regular expression for the end of the module name, from a dot on, and the ' +
        'rank. The first match counts.',
    ),
    alpha_pattern: modulePattern(
      Type.Number(alphaBounds),
      'Other alphas for some modules, like rank_pattern. Each module is scaled by its own alpha / rank.',
    ),
    use_rslora: Type.Boolean({ default: false, description: 'Scale by alpha / sqrt(r) (arXiv:2312.03732).' }),
    lora_plus_ratio: Nullable(Type.Number({ exclusiveMinimum: 0, maximum: 1024 }), {
      default: null,
      description:
        'LoRA+ (arXiv:2402.12354): the learning rate of B is this many times that of A, which is learning_rate. ' +
        'Null: the same rate.',
    }),
    init_from: Nullable(AdapterId, { default: null, description: INIT_FROM }),
  },
  { $id: 'LoraSettings', ...closed },
);
export type LoraSettings = Static<typeof LoraSettings>;

/** Early stopping as in Keras and Lightning: an evaluation improves if its loss is more than min_delta below that of the last improvement. */
export const EarlyStopping = Type.Object(
  {
    patience: Type.Integer({
      minimum: 1,
      maximum: 10_000,
      description: 'Training stops after so many evaluations without an improvement.',
    }),
    min_delta: Type.Number({
      minimum: 0,
      default: 0,
      description: 'A smaller decrease of the loss is no improvement.',
    }),
  },
  closed,
);
export type EarlyStopping = Static<typeof EarlyStopping>;

const earlyStoppingOptions = {
  default: null,
  description: 'Stops training when evaluations no longer improve; needs eval_every_steps and validation.',
};

export const BASE_QUANTIZATIONS = ['none', 'nf4'] as const;
/** The quantization of a base model's frozen weights when they are read. */
export type BaseQuantization = (typeof BASE_QUANTIZATIONS)[number];

export const TrainingSettings = Type.Object(
  {
    epochs: Type.Number({ exclusiveMinimum: 0, maximum: 1000, default: 3 }),
    max_steps: Nullable(Type.Integer({ minimum: 1, maximum: MAX_STEPS }), {
      default: null,
      description: 'Overrides epochs: training ends after this many steps, earlier or later.',
    }),
    batch_size: Type.Integer({
      minimum: 1,
      maximum: 4096,
      default: 8,
      description: `Rows per micro-batch; of an objective group-relative prompts, and the default is ${GROUP_BATCH.batch_size}.`,
    }),
    gradient_accumulation_steps: Type.Integer({
      minimum: 1,
      maximum: MAX_ACCUMULATION_STEPS,
      default: 1,
      description: `Micro-batches per optimizer step. With an objective group-relative, the default is ${GROUP_BATCH.gradient_accumulation_steps}.`,
    }),
    learning_rate: Type.Number({
      exclusiveMinimum: 0,
      maximum: 10,
      default: 1e-4,
      description: `With an objective, the default is ${PREFERENCE_LEARNING_RATE}.`,
    }),
    lr_scheduler: Type.Enum(['constant', 'linear', 'cosine'], {
      default: 'linear',
      description: "After the warm-up; constant is transformers' constant_with_warmup.",
    }),
    warmup_ratio: Type.Number({
      minimum: 0,
      maximum: 1,
      default: 0.03,
      description:
        'Share of the steps, rounded up, in which the rate rises linearly from 0. A job of a single step has no ' +
        'warm-up.',
    }),
    optimizer: Type.Enum(['adamw', 'adamw_8bit'], {
      default: 'adamw',
      description:
        'adamw_8bit keeps both moments in 8 bits, in blocks of 256 numbers with a scale each, as bitsandbytes does: less memory, ' +
        'and a result that differs a little.',
    }),
    weight_decay: Type.Number({
      minimum: 0,
      maximum: 10,
      default: 0,
      description: "Decoupled, as in PyTorch's AdamW.",
    }),
    max_grad_norm: Nullable(Type.Number({ exclusiveMinimum: 0 }), {
      default: 1,
      description: 'Clips by the global norm. Null: no clipping.',
    }),
    max_seq_length: Type.Integer({
      minimum: 2,
      maximum: MAX_SEQ_LENGTH,
      default: 1024,
      description: 'Maximum tokens per row.',
    }),
    on_overflow: Type.Enum([...ON_OVERFLOW], {
      default: 'error',
      description: 'What happens to a row longer than max_seq_length.',
    }),
    completion_format: Type.Enum([...COMPLETION_FORMATS], {
      default: DEFAULT_COMPLETION_FORMAT,
      description:
        'How rows of prompt and completion, or instruction and output, are written. chat: as a turn of the user and one of ' +
        "the assistant, in the model's chat template, if it has one. text: as they are, one after the other, as TRL writes them.",
    }),
    precision: Type.Enum(['auto', 'float32', 'bfloat16'], {
      default: 'auto',
      description:
        "Dtype of the frozen weights and of all matrix products, LoRA's and attention's included. A and B are " +
        'stored and updated in float32; norms, softmax and loss are float32.',
    }),
    base_quantization: Type.Enum([...BASE_QUANTIZATIONS], {
      default: 'none',
      description:
        'nf4: the frozen weights of the linear layers and of experts are quantized to 4 bits when they are read, in blocks of 64 with ' +
        'double quantization, as in QLoRA: a quarter of the memory of bfloat16. Embeddings, norms and the output head stay as they are. ' +
        'A base model that is stored in 4 bits needs none.',
    }),
    recompute: Type.Enum(['auto', 'always', 'never'], {
      default: 'auto',
      description:
        'Whether the backward pass computes layers again instead of keeping their activations: less memory, about ' +
        'a third more time if it is all of them. auto: as few as the job needs to fit.',
    }),
    seed: Type.Integer({ minimum: 0, maximum: 4_294_967_295, default: 42 }),
    eval_every_steps: Nullable(Type.Integer({ minimum: 1, maximum: MAX_STEPS }), {
      default: null,
      description: 'Null: evaluates only before and after training.',
    }),
    early_stopping: Nullable(EarlyStopping, earlyStoppingOptions),
    publish: Type.Enum(['auto', 'last', 'best'], {
      default: 'auto',
      description:
        'Which state becomes the adapter: the last one, or the one with the lowest loss on the held-out rows, which needs eval_every_steps and validation. auto: best with early_stopping, otherwise last.',
    }),
    checkpoint_every_steps: Nullable(Type.Integer({ minimum: 1, maximum: MAX_STEPS }), { default: 50 }),
  },
  { $id: 'TrainingSettings', ...closed },
);
export type TrainingSettings = Static<typeof TrainingSettings>;

export const ValidationSettings = Type.Object(
  {
    split: Type.Number({
      minimum: 0,
      exclusiveMaximum: 1,
      default: 0,
      description: 'Share of the rows held out, chosen by the seed.',
    }),
    dataset: Nullable(DatasetId, {
      default: null,
      description: 'A dataset to evaluate on, instead of a share of the rows.',
    }),
  },
  { $id: 'ValidationSettings', ...closed },
);
export type ValidationSettings = Static<typeof ValidationSettings>;

const jobName = Nullable(Label(MAX_NAME_CHARACTERS), { default: null });
/** Strings of a job's user. */
export const jobMetadata = Type.Record(Type.String({ pattern: '^.{1,64}$' }), Type.String({ maxLength: 512 }), {
  additionalProperties: false,
  maxProperties: 16,
  default: {},
  description: 'Up to 16 strings of your own, returned unchanged.',
});

export const JOB_PRIORITIES = ['low', 'normal', 'high'] as const;
export const JobPriority = Type.Enum([...JOB_PRIORITIES], {
  default: 'normal',
  description:
    'Among the jobs of the same key: which of them start first, and their shares of the machine while they train together ' +
    '(low 1/4, normal 1, high 4). It does not affect the adapter.',
});
export type JobPriority = (typeof JOB_PRIORITIES)[number];

const sampleOptions = {
  default: null,
  description:
    'Prompts that the model answers before training, at an interval of steps and at the end. The answers are events, and in ' +
    'the manifest of the adapter. They do not affect the training.',
};

export const WebhookSettings = Type.Object(
  {
    url: Type.String({
      minLength: 9,
      maxLength: 2048,
      description: 'An https:// address. What is sent to it is in the documentation of the API.',
    }),
  },
  { $id: 'WebhookSettings', ...closed },
);
const webhook = Nullable(WebhookSettings, {
  default: null,
  description: 'Receives a signed message once the job has succeeded, failed or been cancelled.',
});

const jobSpecFields = {
  base_model: ModelName,
  dataset: DatasetId,
  priority: JobPriority,
  validation: ValidationSettings,
  lora: LoraSettings,
  objective: Type.Optional(JobObjective),
  training: TrainingSettings,
  samples: Nullable(SampleSettings, sampleOptions),
  name: jobName,
  metadata: jobMetadata,
  webhook,
  deliver: Type.Optional(JobDeliveries),
};

const TrainingRequest = Type.Partial(
  Type.Object({
    ...TrainingSettings.properties,
    early_stopping: Nullable(
      Type.Object(
        { ...EarlyStopping.properties, min_delta: Type.Optional(EarlyStopping.properties.min_delta) },
        closed,
      ),
      earlyStoppingOptions,
    ),
  }),
  { $id: 'TrainingRequest', ...closed },
);

/** LoRA settings of a request, in which the adapter may have a name. The record of the job has its id. */
const LoraRequest = Type.Partial(
  Type.Object({
    ...LoraSettings.properties,
    init_from: Nullable(AdapterReference, {
      default: null,
      description: `${INIT_FROM} A name means the adapter that it points to when the job is accepted.`,
    }),
  }),
  { $id: 'LoraRequest', ...closed },
);

/** The body of `POST /jobs`. Everything except the model and the dataset has a default. Tags and note are in the job's record alone. */
export const JobRequest = Type.Object(
  {
    base_model: ModelName,
    dataset: DatasetId,
    priority: Type.Optional(JobPriority),
    validation: Type.Optional(Type.Partial(ValidationSettings, { $id: 'ValidationRequest', ...closed })),
    lora: Type.Optional(LoraRequest),
    objective: Type.Optional(ObjectiveRequest),
    training: Type.Optional(TrainingRequest),
    samples: Type.Optional(Nullable(SampleRequest, sampleOptions)),
    name: Type.Optional(jobName),
    metadata: Type.Optional(jobMetadata),
    ...initialDetails,
    webhook: Type.Optional(webhook),
    deliver: Type.Optional(JobDeliveries),
  } satisfies Record<keyof typeof jobSpecFields | keyof typeof initialDetails, TSchema>,
  {
    $id: 'JobRequest',
    ...closed,
    examples: [
      {
        base_model: 'SmolLM2-135M-Instruct',
        dataset: 'ds_0123456789abcdef01234567',
        validation: { split: 0.1 },
        lora: { r: 8, alpha: 16, target_modules: ['q_proj', 'v_proj'] },
        training: { epochs: 3, learning_rate: 1e-4 },
        name: 'support-tone',
      },
    ],
  },
);
export type JobRequest = Static<typeof JobRequest>;

/** A job request with every default filled in: what is queued, trained and written into the manifest. */
export const JobSpec = Type.Object(jobSpecFields, { $id: 'JobSpec', ...closed });
export type JobSpec = Static<typeof JobSpec>;

/** The spec of a job, without the fields that the job adds. */
export function specOf(job: JobSpec): JobSpec {
  return pick(job, Object.keys(JobSpec.properties) as (keyof JobSpec)[]);
}

/**
 * Fields of a spec that do not affect the training. The identity of a run contains the digests of the base model and the
 * datasets instead of their names.
 */
const NOT_IN_IDENTITY = [
  'base_model',
  'dataset',
  'priority',
  'samples',
  'name',
  'metadata',
  'webhook',
  'deliver',
] as const satisfies (keyof JobSpec)[];

type TrainedSettings = Omit<JobSpec, (typeof NOT_IN_IDENTITY)[number] | 'validation'> & {
  validation: Omit<ValidationSettings, 'dataset'>;
};

/** The settings that affect a training: every field of the spec except those, and without the name of the validation dataset. */
export function trainedSettings(spec: JobSpec): TrainedSettings {
  const ignored: readonly string[] = NOT_IN_IDENTITY;
  const fields = Object.keys(JobSpec.properties).filter((field) => !ignored.includes(field));
  const { validation, ...settings } = pick(spec, fields as Exclude<keyof JobSpec, (typeof NOT_IN_IDENTITY)[number]>[]);
  return { ...settings, validation: { split: validation.split } };
}

function pick<Source extends object, Field extends keyof Source>(source: Source, fields: Field[]): Pick<Source, Field> {
  const present = fields.filter((field) => source[field] !== undefined);
  return Object.fromEntries(present.map((field) => [field, source[field]])) as Pick<Source, Field>;
}

export const JOB_STATUSES = ['queued', 'preparing', 'running', 'paused', 'succeeded', 'failed', 'cancelled'] as const;
export const JobStatus = Type.Enum(JOB_STATUSES);
export type JobStatus = (typeof JOB_STATUSES)[number];
/** The statuses of a job that waits for a worker or has one. */
export const ACTIVE_STATUSES: readonly JobStatus[] = ['queued', 'preparing', 'running'];
export const UNFINISHED_STATUSES: readonly JobStatus[] = [...ACTIVE_STATUSES, 'paused'];
export const ENDED_STATUSES: readonly JobStatus[] = ['succeeded', 'failed', 'cancelled'];

/** Why a job failed: a stable code and a sentence that says what to do. */
export const JobFailure = Type.Object(
  { code: Type.String(), message: Type.String(), details: Type.Array(Fault) },
  { $id: 'JobFailure', ...closed },
);
export type JobFailure = Static<typeof JobFailure>;

/** The progress of a running job. */
export const JobProgress = Type.Object(
  {
    step: Type.Integer({ minimum: 0 }),
    total_steps: Type.Integer({ minimum: 0 }),
    epoch: Type.Number({ minimum: 0 }),
    loss: Nullable(Type.Number()),
    tokens_per_second: Nullable(Type.Number()),
    seconds_left: Nullable(Type.Number(), {
      description: 'As of the newest step. Null from the start of a later attempt to its first step.',
    }),
  },
  { $id: 'JobProgress', ...closed },
);
export type JobProgress = Static<typeof JobProgress>;

/** The phases of a worker before it takes its first job, in their order. */
export const WORKER_START_PHASES = ['starting', 'self-test', 'measuring'] as const;
export type WorkerStartPhase = (typeof WORKER_START_PHASES)[number];

/** The reasons why no worker takes a job. */
export const QUEUE_REASONS = [
  'no-worker',
  ...WORKER_START_PHASES.map((phase): `worker-${WorkerStartPhase}` => `worker-${phase}`),
  'workers-busy',
] as const;
export type QueueReason = (typeof QUEUE_REASONS)[number];

/** When an unfinished job is expected to start and to end, if no other job is sent. */
export const JobQueueState = Type.Object(
  {
    ahead: Type.Integer({
      minimum: 0,
      description: 'Waiting jobs of all keys that start before this one; 0 once it has started.',
    }),
    reason: Nullable(Type.Enum([...QUEUE_REASONS]), {
      description:
        'Why it waits: no-worker: none runs; worker-starting, worker-self-test (of its engine on the GPU), worker-measuring (its machine): ' +
        'a worker starts, and no other is free; workers-busy: all train other jobs. Null once it has started, and while a worker is free.',
    }),
    estimated_start: Nullable(Type.String(), {
      description: 'Null once it has started, and while no worker runs or the length of a job before it is unknown.',
    }),
    estimated_end: Nullable(Type.String(), {
      description:
        'Null while it is unknown how long the job takes or when it starts. Loading and publishing do not count.',
    }),
  },
  { $id: 'JobQueueState', ...closed },
);
export type JobQueueState = Static<typeof JobQueueState>;

/** The sweep that made a job, and which of its variants the job is. */
export const JobSweep = Type.Object(
  { id: SweepId, variant: Type.Integer({ minimum: 1 }) },
  { $id: 'JobSweep', ...closed },
);
export type JobSweep = Static<typeof JobSweep>;

/** Only a cancelled job has it: nobody cancelled one that a rung has stopped. */
export const StoppedAtRung = Type.Optional(
  Type.Integer({
    minimum: 1,
    description:
      'The step of the rung of its sweep that stopped the job. Absent if none did; otherwise it is cancelled.',
  }),
);

const jobFields = {
  id: JobId,
  object: Type.Literal('job'),
  owner: Owner,
  status: JobStatus,
  sweep: Type.Optional(JobSweep),
  stopped_at_rung: StoppedAtRung,
  ...JobSpec.properties,
  ...ownDetails,
  report: Nullable(Report, { description: 'What the job will do. Null until a worker has prepared it.' }),
  progress: Nullable(JobProgress),
  queue: Type.Optional(
    Nullable(JobQueueState, {
      description: 'Only in the answer of `GET /jobs/:id`; null once the job has ended, and while it is paused.',
    }),
  ),
  adapter: Nullable(AdapterId),
  error: Nullable(JobFailure),
  attempts: Type.Integer({ minimum: 0 }),
  resumes: Type.Integer({
    minimum: 0,
    description: 'How often the job was resumed after it had ended, or after a pause.',
  }),
  created_at: Type.String(),
  started_at: Nullable(Type.String()),
  ended_at: Nullable(Type.String()),
};

/** A job that trains an adapter on a dataset. */
export const TrainJob = Type.Object({ kind: Type.Literal('train'), ...jobFields }, { $id: 'TrainJob', ...closed });
export type TrainJob = Static<typeof TrainJob>;

/** A job that publishes a checkpoint of another job as an adapter, without training. Its spec is that of the other job. */
export const PublishCheckpointJob = Type.Object(
  { kind: Type.Literal('publish-checkpoint'), checkpoint: CheckpointReference, ...jobFields },
  { $id: 'PublishCheckpointJob', ...closed },
);
export type PublishCheckpointJob = Static<typeof PublishCheckpointJob>;

/** Every kind of job. `kind` distinguishes them. */
export const Job = Type.Union([TrainJob, PublishCheckpointJob], { $id: 'Job' });
export type Job = TrainJob | PublishCheckpointJob;
export const JobPage = CountedPage(Job, 'JobPage');

/** The kind of a job with the fields of this kind only. */
export type JobTask = Pick<TrainJob, 'kind'> | Pick<PublishCheckpointJob, 'kind' | 'checkpoint'>;

/** The scale of B A: `alpha / rank`, or with rsLoRA `alpha / √rank` (arXiv:2312.03732). */
export function loraScale(settings: { rank: number; alpha: number; use_rslora: boolean }): number {
  return settings.alpha / (settings.use_rslora ? Math.sqrt(settings.rank) : settings.rank);
}
