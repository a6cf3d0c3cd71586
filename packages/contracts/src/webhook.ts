import { type Static, Type } from 'typebox';
import { AdapterId, DatasetId, JobId, ModelName } from './identifier.js';
import { JobFailure, JobStatus } from './job.js';
import { Nullable } from './nullable.js';
import { closed } from './schema-parts.js';

export const WEBHOOK_TYPES = ['job.succeeded', 'job.failed', 'job.cancelled'] as const;
export type WebhookType = (typeof WEBHOOK_TYPES)[number];

/** The body of a webhook, in the form that Standard Webhooks recommends. */
export const WebhookBody = Type.Object(
  {
    type: Type.Enum([...WEBHOOK_TYPES]),
    timestamp: Type.String({ description: 'When the job ended: RFC 3339, UTC.' }),
    data: Type.Object(
      {
        id: JobId,
        object: Type.Literal('job'),
        kind: Type.Enum(['train', 'publish-checkpoint']),
        status: JobStatus,
        base_model: ModelName,
        dataset: DatasetId,
        name: Nullable(Type.String()),
        metadata: Type.Record(Type.String(), Type.String()),
        adapter: Nullable(AdapterId),
        error: Nullable(JobFailure),
      },
      closed,
    ),
  },
  { $id: 'WebhookBody', ...closed },
);
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
