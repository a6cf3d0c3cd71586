import { type Static, Type } from 'typebox';
import { closed, JobId, Label, Nullable } from './schema-parts.js';

/** A stored state of a training. It can be resumed, and published as an adapter. */
export const Checkpoint = Type.Object(
  {
    object: Type.Literal('checkpoint'),
    job: JobId,
    step: Type.Integer({ minimum: 0, description: 'Number of finished optimizer steps.' }),
    epoch: Type.Number({ minimum: 0, description: 'Passes over the data so far.' }),
    train_loss: Type.Number({ description: 'Loss of the step.' }),
    eval_loss: Nullable(Type.Number(), {
      description: 'Loss on the held-out rows after the step; null without an evaluation.',
    }),
    is_best: Type.Boolean({ description: 'Whether it has the lowest eval_loss of the stored checkpoints.' }),
    is_last: Type.Boolean(),
    bytes: Type.Integer({ minimum: 0 }),
    created_at: Type.String(),
  },
  { $id: 'Checkpoint', ...closed },
);
export type Checkpoint = Static<typeof Checkpoint>;

export const CheckpointList = Type.Object(
  { data: Type.Array(Checkpoint), has_more: Type.Literal(false), next: Type.Null() },
  { $id: 'CheckpointList', ...closed },
);
export type CheckpointList = Static<typeof CheckpointList>;

/** Identifies a checkpoint. */
export const CheckpointReference = Type.Object(
  { job: JobId, step: Type.Integer({ minimum: 0 }) },
  { $id: 'CheckpointReference', ...closed },
);
export type CheckpointReference = Static<typeof CheckpointReference>;

/** The body of `POST /jobs/:id/checkpoints/:step/publish`, which is optional. */
export const PublishCheckpointRequest = Type.Object(
  { name: Type.Optional(Label(128, 'Name of the adapter.')) },
  { $id: 'PublishCheckpointRequest', ...closed },
);
export type PublishCheckpointRequest = Static<typeof PublishCheckpointRequest>;
