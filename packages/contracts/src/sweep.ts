import { type Static, Type } from 'typebox';
import { SweepDeliveries } from './delivery.js';
import { JobFailure, JobProgress, JobRequest, JobStatus, StoppedAtRung, WebhookSettings } from './job.js';
import { Page } from './page.js';
import {
  AdapterId,
  closed,
  count,
  DatasetId,
  JobId,
  Label,
  ModelName,
  Nullable,
  Owner,
  SweepId,
} from './schema-parts.js';

/** Most jobs of a sweep. */
export const MAX_VARIANTS = 64;
/** Values of a range in a grid, unless a request says how many. */
export const DEFAULT_RANGE_COUNT = 4;
/** The seed of a random search, unless a request has one. */
export const DEFAULT_SWEEP_SEED = 42;
const MAX_FIELDS = 8;
const MAX_EXCLUSIONS = 64;
/** Limits, for docs/limits.md. */
export const sweepLimits = {
  variants: { value: MAX_VARIANTS, unit: 'variants', beyond: '422 `invalid_sweep`' },
  fields: { value: MAX_FIELDS, unit: 'fields', beyond: '400 `invalid_request`' },
};

/** A value of a field of a job. */
export const SweepValue = Type.Union([
  Type.String({ maxLength: 1024 }),
  Type.Number(),
  Type.Boolean(),
  Type.Null(),
  Type.Array(Type.String({ maxLength: 256 }), { maxItems: 64 }),
]);
export type SweepValue = Static<typeof SweepValue>;

/** The sections whose fields may differ between variants. */
const VARIED_SECTIONS = ['lora', 'training', 'objective'];
/** Fields of these that variants have in common, or they could not be compared: what the rows become, and what is measured. */
const IN_COMMON = [
  'lora.init_from',
  'training.max_seq_length',
  'training.on_overflow',
  'training.completion_format',
  'objective.kind',
  'objective.grader',
];

/** The rule of which fields of the job may differ between variants. @param path - such as `lora.r`; it may be no field */
export function mayVary(path: string): boolean {
  const isInCommon = IN_COMMON.some((common) => path === common || path.startsWith(`${common}.`));
  return VARIED_SECTIONS.includes(path.split('.')[0]!) && !isInCommon;
}

const valueList = (description: string) =>
  Type.Optional(Type.Array(SweepValue, { minItems: 1, maxItems: MAX_VARIANTS, description }));

export const SweepRange = Type.Object(
  {
    from: Type.Number(),
    to: Type.Number({ description: 'Above from.' }),
    scale: Type.Optional(
      Type.Enum(['linear', 'log'], {
        default: 'linear',
        description: 'log: equal factors between neighbours, and as many draws from 1e-5 to 1e-4 as from 1e-4 to 1e-3.',
      }),
    ),
    count: Type.Optional(
      Type.Integer({
        minimum: 2,
        maximum: MAX_VARIANTS,
        default: DEFAULT_RANGE_COUNT,
        description: 'Values of a grid, at even distances, with both ends. Only of a grid.',
      }),
    ),
  },
  { $id: 'SweepRange', ...closed },
);
export type SweepRange = Static<typeof SweepRange>;

/** The values that a field is tried with. */
export const SweepField = Type.Object(
  { values: valueList('These values.'), range: Type.Optional(SweepRange) },
  { $id: 'SweepField', ...closed, description: 'Either values or a range.' },
);
export type SweepField = Static<typeof SweepField>;

/** A condition on the value of a field. */
export const SweepCondition = Type.Object(
  {
    values: valueList('One of these values.'),
    from: Type.Optional(Type.Number({ description: 'This number or more.' })),
    to: Type.Optional(Type.Number({ description: 'This number or less.' })),
  },
  { $id: 'SweepCondition', ...closed },
);
export type SweepCondition = Static<typeof SweepCondition>;

const fieldsOf = <Value extends typeof SweepField | typeof SweepCondition>(value: Value, description: string) =>
  Type.Record(Type.String(), value, { ...closed, minProperties: 1, maxProperties: MAX_FIELDS, description });

export const SWEEP_METRICS = ['loss', 'accuracy', 'reward'] as const;
export type SweepMetric = (typeof SWEEP_METRICS)[number];
export const SWEEP_DIRECTIONS = ['min', 'max'] as const;
export type SweepDirection = (typeof SWEEP_DIRECTIONS)[number];

/** The body of `POST /sweeps`. */
export const SweepRequest = Type.Object(
  {
    job: JobRequest,
    space: fieldsOf(
      SweepField,
      'What differs between the variants: paths of fields of the job, such as `lora.r` and `training.learning_rate`, and what each is tried with.',
    ),
    exclude: Type.Optional(
      Type.Array(fieldsOf(SweepCondition, 'Paths of fields of the space, and a condition on each.'), {
        maxItems: MAX_EXCLUSIONS,
        description: 'A variant that meets all conditions of an entry is left out.',
      }),
    ),
    search: Type.Optional(
      Type.Enum(['grid', 'random'], {
        default: 'grid',
        description: 'grid: every combination. random: `variants` of them, drawn with the seed.',
      }),
    ),
    variants: Type.Optional(
      Type.Integer({ minimum: 1, maximum: MAX_VARIANTS, description: 'How many are drawn. Only of a random search.' }),
    ),
    seed: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 4_294_967_295,
        default: DEFAULT_SWEEP_SEED,
        description: 'Of a random search.',
      }),
    ),
    halving: Type.Optional(
      Type.Object(
        {
          first_steps: Type.Integer({
            minimum: 1,
            maximum: 10_000_000,
            description: 'The step of the first rung; each further one is at twice as many steps.',
          }),
        },
        {
          ...closed,
          description:
            'Successive halving (arXiv:1502.07943): at each rung the better half goes on, and the others are cancelled, until one is left.',
        },
      ),
    ),
    metric: Type.Optional(
      Type.Enum([...SWEEP_METRICS], {
        default: 'loss',
        description:
          'What variants are compared by, on the held-out rows: the loss, the accuracy, or the mean reward of an objective group-relative.',
      }),
    ),
    direction: Type.Optional(
      Type.Enum([...SWEEP_DIRECTIONS], { description: 'Whether less or more is better. As the metric has it.' }),
    ),
    publish_best: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: MAX_VARIANTS,
        default: 1,
        description: 'The adapters of so many variants stay. Those of the others are deleted once the sweep has ended.',
      }),
    ),
    name: Type.Optional(Nullable(Label(100), { default: null })),
    deliver: Type.Optional(SweepDeliveries),
    webhook: Type.Optional(
      Nullable(WebhookSettings, {
        default: null,
        description:
          'Receives a signed message once the sweep has ended. That of the template receives those of its jobs.',
      }),
    ),
  },
  {
    $id: 'SweepRequest',
    ...closed,
    examples: [
      {
        job: {
          base_model: 'SmolLM2-135M-Instruct',
          dataset: 'ds_0123456789abcdef01234567',
          validation: { split: 0.1 },
        },
        space: {
          'training.learning_rate': { range: { from: 1e-4, to: 3e-3, scale: 'log', count: 4 } },
          'lora.r': { values: [8, 16] },
        },
      },
    ],
  },
);
export type SweepRequest = Static<typeof SweepRequest>;

/** The values of a variant by the paths of their fields. */
export const VariantValues = Type.Record(Type.String(), SweepValue);
export type VariantValues = Static<typeof VariantValues>;

export const SWEEP_STATUSES = ['running', 'paused', 'succeeded', 'failed', 'cancelled'] as const;
export const SweepStatus = Type.Enum([...SWEEP_STATUSES]);
export type SweepStatus = (typeof SWEEP_STATUSES)[number];

/** An evaluation of a job on its held-out rows, as its record keeps the newest one. What is not a number is null. */
export interface JobEvaluation {
  step: number;
  loss: number | null;
  accuracy: number | null;
  /** The mean reward; null without an objective group-relative. */
  reward: number | null;
}

export const SweepVariant = Type.Object(
  {
    variant: Type.Integer({ minimum: 1 }),
    values: VariantValues,
    job: JobId,
    status: Nullable(JobStatus, { description: 'That of its job. Null once the job was deleted.' }),
    stopped_at_rung: StoppedAtRung,
    progress: Nullable(JobProgress, { description: 'That of its job. Null before its first step.' }),
    metric: Nullable(Type.Number(), {
      description:
        'Of its newest evaluation; once it has succeeded, of the state that was published. Null before the first evaluation, and where it is not a number.',
    }),
    step: Nullable(Type.Integer({ minimum: 0 }), { description: 'The step of that evaluation.' }),
    rank: Nullable(Type.Integer({ minimum: 1 }), { description: '1: the best. Null until the sweep has ended.' }),
    adapter: Nullable(AdapterId, { description: 'Null before it is published, and once it was deleted by the sweep.' }),
    error: Nullable(JobFailure),
  },
  { $id: 'SweepVariant', ...closed },
);
export type SweepVariant = Static<typeof SweepVariant>;

export const SweepRung = Type.Object(
  {
    step: Type.Integer({ minimum: 1 }),
    kept: Type.Array(Type.Integer({ minimum: 1 }), { description: 'Numbers of the variants that went on.' }),
    stopped: Type.Array(Type.Integer({ minimum: 1 }), {
      description: 'Those that did not, of the ones that were left.',
    }),
    decided_at: Type.String(),
  },
  { $id: 'SweepRung', ...closed },
);
export type SweepRung = Static<typeof SweepRung>;

export const Sweep = Type.Object(
  {
    id: SweepId,
    object: Type.Literal('sweep'),
    owner: Owner,
    name: Nullable(Type.String()),
    status: SweepStatus,
    base_model: ModelName,
    dataset: DatasetId,
    metric: Type.Enum([...SWEEP_METRICS]),
    direction: Type.Enum([...SWEEP_DIRECTIONS]),
    request: SweepRequest,
    variants: Type.Array(SweepVariant),
    rungs: Type.Array(SweepRung, { description: 'The decisions of a sweep by halving so far.' }),
    best: Nullable(JobId, { description: 'The job of the best variant, once the sweep has ended.' }),
    created_at: Type.String(),
    ended_at: Nullable(Type.String()),
  },
  { $id: 'Sweep', ...closed },
);
export type Sweep = Static<typeof Sweep>;
export const SweepPage = Page(Sweep, 'SweepPage');

/** A variant as a dry run plans it. */
export const PlannedVariant = Type.Object(
  {
    variant: Type.Integer({ minimum: 1 }),
    values: VariantValues,
    steps: Nullable(count('Optimizer steps.')),
    tokens: Nullable(count('Tokens that all steps read.')),
    seconds: Nullable(Type.Number({ minimum: 0, description: 'If it trains alone.' })),
    peak_memory_bytes: Nullable(count('If it trains alone.')),
    error: Nullable(JobFailure, { description: 'Why it cannot run.' }),
  },
  { $id: 'PlannedVariant', ...closed },
);
export type PlannedVariant = Static<typeof PlannedVariant>;

/** The plan of a sweep. `POST /sweeps?dry_run=true` returns it. */
export const SweepPlan = Type.Object(
  {
    jobs: count('Variants that can run. A sweep is refused unless all can.'),
    variants: Type.Array(PlannedVariant),
    tokens: count('Tokens that all of them read; by halving about.'),
    seconds: Nullable(Type.Number({ minimum: 0 }), {
      description: 'If they train one after the other. In shared passes they take less.',
    }),
    at_once: Nullable(
      count(
        'How many of them fit into the memory of the measured machine together. How many a worker takes at once is its `JOBS_AT_ONCE`.',
      ),
    ),
    peak_memory_bytes: Nullable(count('Expected peak while so many train together.')),
  },
  { $id: 'SweepPlan', ...closed },
);
export type SweepPlan = Static<typeof SweepPlan>;
