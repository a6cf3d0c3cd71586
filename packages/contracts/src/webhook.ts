import { type Static, Type } from 'typebox';
import { Comparison } from './comparison.js';
import { Delivery } from './delivery.js';
import { JobFailure, JobStatus } from './job.js';
import { AdapterId, closed, DatasetId, JobId, ModelName, Nullable, SweepId } from './schema-parts.js';
import { SweepStatus } from './sweep.js';

export const JOB_WEBHOOK_TYPES = ['job.succeeded', 'job.failed', 'job.cancelled'] as const;
export const SWEEP_WEBHOOK_TYPES = ['sweep.succeeded', 'sweep.failed', 'sweep.cancelled'] as const;
export const DELIVERY_WEBHOOK_TYPES = ['delivery.delivered', 'delivery.failed', 'delivery.cancelled'] as const;
export const COMPARISON_WEBHOOK_TYPES = ['comparison.succeeded', 'comparison.failed', 'comparison.cancelled'] as const;
export type WebhookType =
  | (typeof JOB_WEBHOOK_TYPES)[number]
  | (typeof SWEEP_WEBHOOK_TYPES)[number]
  | (typeof DELIVERY_WEBHOOK_TYPES)[number]
  | (typeof COMPARISON_WEBHOOK_TYPES)[number];

/** The time of every message. */
const timestamp = Type.String({
  description: 'When the job, the sweep, the delivery or the comparison ended: RFC 3339, UTC.',
});
/** The fields that the data of jobs and sweeps have in common. */
const common = {
  base_model: ModelName,
  dataset: DatasetId,
  name: Nullable(Type.String()),
  metadata: Type.Record(Type.String(), Type.String()),
};

/** The end of a job. */
export const JobWebhookBody = Type.Object(
  {
    type: Type.Enum([...JOB_WEBHOOK_TYPES]),
    timestamp,
    data: Type.Object(
      {
        id: JobId,
        object: Type.Literal('job'),
        kind: Type.Enum(['train', 'publish-checkpoint']),
        status: JobStatus,
        ...common,
        adapter: Nullable(AdapterId),
        error: Nullable(JobFailure),
      },
      closed,
    ),
  },
  { $id: 'JobWebhookBody', ...closed },
);
export type JobWebhookBody = Static<typeof JobWebhookBody>;

/** The end of a sweep. `metadata` is that of its template. */
export const SweepWebhookBody = Type.Object(
  {
    type: Type.Enum([...SWEEP_WEBHOOK_TYPES]),
    timestamp,
    data: Type.Object(
      {
        id: SweepId,
        object: Type.Literal('sweep'),
        status: SweepStatus,
        ...common,
        best: Nullable(JobId, { description: 'The job of the best variant.' }),
        adapter: Nullable(AdapterId, { description: 'That of the best variant.' }),
        metric: Nullable(Type.Number(), { description: 'Of the best variant.' }),
      },
      closed,
    ),
  },
  { $id: 'SweepWebhookBody', ...closed },
);
export type SweepWebhookBody = Static<typeof SweepWebhookBody>;

/** The end of a delivery. It is sent to the webhook of its job, if it has one, and to that in the settings. */
export const DeliveryWebhookBody = Type.Object(
  { type: Type.Enum([...DELIVERY_WEBHOOK_TYPES]), timestamp, data: Delivery },
  { $id: 'DeliveryWebhookBody', ...closed },
);
export type DeliveryWebhookBody = Static<typeof DeliveryWebhookBody>;

/** The end of a comparison. It is sent to the webhook in the settings. */
export const ComparisonWebhookBody = Type.Object(
  { type: Type.Enum([...COMPARISON_WEBHOOK_TYPES]), timestamp, data: Comparison },
  { $id: 'ComparisonWebhookBody', ...closed },
);
export type ComparisonWebhookBody = Static<typeof ComparisonWebhookBody>;

/** The body of a webhook, in the form that Standard Webhooks recommends. */
export const WebhookBody = Type.Union([JobWebhookBody, SweepWebhookBody, DeliveryWebhookBody, ComparisonWebhookBody], {
  $id: 'WebhookBody',
});
export type WebhookBody = Static<typeof WebhookBody>;

/** Answer of `GET /webhook-secret`. */
export const WebhookSecret = Type.Object(
  {
    object: Type.Literal('webhook_secret'),
    secret: Type.String({ description: '`whsec_…`: the webhooks of this key are signed with it.' }),
  },
  { $id: 'WebhookSecret', ...closed },
);
export type WebhookSecret = Static<typeof WebhookSecret>;
