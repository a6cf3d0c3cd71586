import { type Static, type TProperties, type TSchema, Type } from 'typebox';
import { evaluatedTokens } from './adapter.js';
import { ComparisonProgress, ComparisonResult } from './comparison.js';
import { AnswerRound, GroupMetrics } from './group-relative.js';
import { ENDED_STATUSES, JobFailure } from './job.js';
import { PreferenceMetrics } from './preference.js';
import { Report } from './report.js';
import { SampleRound } from './samples.js';
import { AdapterId, ComparisonId, closed, JobId, Nullable, SweepId } from './schema-parts.js';
import { SweepRung } from './sweep.js';

/** The data of each kind of event of a job. */
const EVENT_DATA = {
  'job-queued': Type.Object({}, closed),
  'job-started': Type.Object({ attempt: Type.Integer({ minimum: 1 }), worker: Type.String() }, closed),
  'tokenizing-progressed': Type.Object(
    {
      rows: Type.Integer({ minimum: 0, description: 'Rows of the dataset that are tokenized.' }),
      total_rows: Type.Integer({ minimum: 1 }),
    },
    closed,
  ),
  'report-ready': Type.Object({ report: Report }, closed),
  'reference-progressed': Type.Object(
    {
      pairs: Type.Integer({
        minimum: 0,
        description: 'Pairs, or answers with a label, whose log-probabilities under the reference are known.',
      }),
      total_pairs: Type.Integer({ minimum: 1 }),
    },
    closed,
  ),
  'step-finished': Type.Object(
    {
      step: Type.Integer({ minimum: 1 }),
      total_steps: Type.Integer({ minimum: 1 }),
      epoch: Type.Number({ description: 'Passes over the data so far.' }),
      loss: Type.Number({ description: 'Mean over the trained tokens of the step, before its update.' }),
      accuracy: Type.Number({
        description:
          "Share of the trained tokens of the step that the model ranks first, before its update: TRL's mean_token_accuracy. Share of the rows for a classifier; of pairs and of answers with a label, rewards/accuracies; of sampled answers those that ended by themselves.",
      }),
      preference: Type.Optional(PreferenceMetrics),
      group: Type.Optional(GroupMetrics),
      learning_rate: Type.Number(),
      grad_norm: Type.Number({ description: 'Global norm before clipping.' }),
      tokens_per_second: Type.Number({
        description:
          "This job's tokens in the step, per second that the step took; every token read counts. A step that shared the trainer with other jobs took longer.",
      }),
      seconds_left: Type.Number({
        description:
          'Until the last step, if the steps go on as the last 20 did, beside as many other jobs, and checkpoints, evaluations and samples between them as so far in this attempt. What follows the last step is not included.',
      }),
    },
    closed,
  ),
  'evaluation-finished': Type.Object(
    {
      step: Type.Integer({ minimum: 0 }),
      loss: Type.Number({
        description: 'Of an objective group-relative: the mean reward, negative, so that less is better.',
      }),
      perplexity: Nullable(Type.Number(), {
        description:
          'exp(loss); null for a classifier, for an objective of preferences or rewards, or if it overflows.',
      }),
      accuracy: Type.Number({
        description:
          'Share of the trained tokens that the model ranks first; share of the rows for a classifier; of pairs and of answers with a label, rewards/accuracies; of sampled answers those that ended by themselves.',
      }),
      preference: Type.Optional(PreferenceMetrics),
      group: Type.Optional(GroupMetrics),
      ...evaluatedTokens,
    },
    closed,
  ),
  'samples-generated': SampleRound,
  'answers-graded': AnswerRound,
  'checkpoint-saved': Type.Object({ step: Type.Integer({ minimum: 0 }) }, closed),
  'checkpoint-loaded': Type.Object(
    { step: Type.Integer({ minimum: 0, description: 'Training continues after this step.' }) },
    closed,
  ),
  'training-stopped-early': Type.Object(
    {
      step: Type.Integer({ minimum: 1 }),
      best_step: Type.Integer({ minimum: 1 }),
      best_loss: Type.Number({ description: 'Loss on the held-out rows.' }),
    },
    closed,
  ),
  'adapter-published': Type.Object(
    {
      adapter: AdapterId,
      step: Type.Optional(Type.Integer({ minimum: 0, description: 'The step whose state was published.' })),
    },
    closed,
  ),
  'job-failed': Type.Object({ error: JobFailure }, closed),
  'job-cancelled': Type.Object({}, closed),
  'job-paused': Type.Object({}, closed),
  'job-resumed': Type.Object({}, closed),
} as const;

export const EVENT_TYPES = Object.keys(EVENT_DATA) as EventType[];
export type EventType = keyof typeof EVENT_DATA;
export type EventData<Kind extends EventType> = Static<(typeof EVENT_DATA)[Kind]>;
/** The last event of a job is one of these. If the job is resumed, `job-resumed` follows. */
export const LAST_EVENT_TYPES: readonly EventType[] = ['adapter-published', 'job-failed', 'job-cancelled'];

/** An event that is not in the stream yet. */
export type NewJobEvent = { [Kind in EventType]: { type: Kind; data: EventData<Kind> } }[EventType];

/** @param subject - What the event is of, by its id. */
export const eventSchema = <Subject extends TProperties, Kind extends string, Data extends TSchema>(
  subject: Subject,
  type: Kind,
  data: Data,
) =>
  Type.Object(
    {
      id: Type.String({ description: 'Position in the stream. Send it as Last-Event-ID to continue after it.' }),
      ...subject,
      created_at: Type.String(),
      type: Type.Literal(type),
      data,
    },
    closed,
  );

const eventOf = (type: EventType) => eventSchema({ job: JobId }, type, EVENT_DATA[type]);

export const JobEvent = Type.Union(
  [
    eventOf('job-queued'),
    eventOf('job-started'),
    eventOf('tokenizing-progressed'),
    eventOf('report-ready'),
    eventOf('reference-progressed'),
    eventOf('step-finished'),
    eventOf('evaluation-finished'),
    eventOf('samples-generated'),
    eventOf('answers-graded'),
    eventOf('checkpoint-saved'),
    eventOf('checkpoint-loaded'),
    eventOf('training-stopped-early'),
    eventOf('adapter-published'),
    eventOf('job-failed'),
    eventOf('job-cancelled'),
    eventOf('job-paused'),
    eventOf('job-resumed'),
  ],
  { $id: 'JobEvent' },
);
/** The same as `Static<typeof JobEvent>`, discriminated by `type`. */
export type JobEvent = NewJobEvent & { id: string; job: JobId; created_at: string };

export const JobEventList = Type.Object(
  { data: Type.Array(JobEvent), has_more: Type.Boolean(), next: Nullable(Type.String()) },
  { $id: 'JobEventList', ...closed },
);

/** The data of each kind of event of a sweep. */
const SWEEP_EVENT_DATA = {
  'sweep-queued': Type.Object({}, closed),
  'variant-ended': Type.Object(
    {
      variant: Type.Integer({ minimum: 1 }),
      job: JobId,
      status: Type.Enum([...ENDED_STATUSES]),
      metric: Nullable(Type.Number(), { description: 'Null unless it succeeded, and where it is not a number.' }),
    },
    closed,
  ),
  'rung-decided': Type.Object({ rung: SweepRung }, closed),
  'sweep-paused': Type.Object({}, closed),
  'sweep-resumed': Type.Object({}, closed),
  'sweep-succeeded': Type.Object({ best: JobId, adapter: Nullable(AdapterId), metric: Type.Number() }, closed),
  'sweep-failed': Type.Object({}, closed),
  'sweep-cancelled': Type.Object({}, closed),
} as const;

export const SWEEP_EVENT_TYPES = Object.keys(SWEEP_EVENT_DATA) as SweepEventType[];
type SweepEventType = keyof typeof SWEEP_EVENT_DATA;
/** The last event of a sweep is one of these. */
export const LAST_SWEEP_EVENT_TYPES: readonly SweepEventType[] = ['sweep-succeeded', 'sweep-failed', 'sweep-cancelled'];

/** An event that is not in the stream yet. */
export type NewSweepEvent = {
  [Kind in SweepEventType]: { type: Kind; data: Static<(typeof SWEEP_EVENT_DATA)[Kind]> };
}[SweepEventType];

const sweepEventOf = (type: SweepEventType) => eventSchema({ sweep: SweepId }, type, SWEEP_EVENT_DATA[type]);

export const SweepEvent = Type.Union(
  [
    sweepEventOf('sweep-queued'),
    sweepEventOf('variant-ended'),
    sweepEventOf('rung-decided'),
    sweepEventOf('sweep-paused'),
    sweepEventOf('sweep-resumed'),
    sweepEventOf('sweep-succeeded'),
    sweepEventOf('sweep-failed'),
    sweepEventOf('sweep-cancelled'),
  ],
  { $id: 'SweepEvent' },
);
/** The same as `Static<typeof SweepEvent>`, discriminated by `type`. */
export type SweepEvent = NewSweepEvent & { id: string; sweep: SweepId; created_at: string };

export const SweepEventList = Type.Object(
  { data: Type.Array(SweepEvent), has_more: Type.Boolean(), next: Nullable(Type.String()) },
  { $id: 'SweepEventList', ...closed },
);

/** The data of each kind of event of a comparison. */
const COMPARISON_EVENT_DATA = {
  'comparison-queued': Type.Object({}, closed),
  'comparison-started': Type.Object({ rows: Type.Integer({ minimum: 1 }) }, closed),
  'comparison-progressed': ComparisonProgress,
  'comparison-succeeded': Type.Object({ result: ComparisonResult }, closed),
  'comparison-failed': Type.Object({ error: JobFailure }, closed),
  'comparison-cancelled': Type.Object({}, closed),
} as const;

export const COMPARISON_EVENT_TYPES = Object.keys(COMPARISON_EVENT_DATA) as ComparisonEventType[];
type ComparisonEventType = keyof typeof COMPARISON_EVENT_DATA;
/** The last event of a comparison is one of these. */
export const LAST_COMPARISON_EVENT_TYPES: readonly ComparisonEventType[] = [
  'comparison-succeeded',
  'comparison-failed',
  'comparison-cancelled',
];

/** An event that is not in the stream yet. */
export type NewComparisonEvent = {
  [Kind in ComparisonEventType]: { type: Kind; data: Static<(typeof COMPARISON_EVENT_DATA)[Kind]> };
}[ComparisonEventType];

const comparisonEventOf = (type: ComparisonEventType) =>
  eventSchema({ comparison: ComparisonId }, type, COMPARISON_EVENT_DATA[type]);

export const ComparisonEvent = Type.Union(
  [
    comparisonEventOf('comparison-queued'),
    comparisonEventOf('comparison-started'),
    comparisonEventOf('comparison-progressed'),
    comparisonEventOf('comparison-succeeded'),
    comparisonEventOf('comparison-failed'),
    comparisonEventOf('comparison-cancelled'),
  ],
  { $id: 'ComparisonEvent' },
);
/** The same as `Static<typeof ComparisonEvent>`, discriminated by `type`. */
export type ComparisonEvent = NewComparisonEvent & { id: string; comparison: ComparisonId; created_at: string };

export const ComparisonEventList = Type.Object(
  { data: Type.Array(ComparisonEvent), has_more: Type.Boolean(), next: Nullable(Type.String()) },
  { $id: 'ComparisonEventList', ...closed },
);
