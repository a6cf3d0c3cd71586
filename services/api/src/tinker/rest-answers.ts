import type { CheckpointKind, Owner } from '@lorasmith/contracts';
import type { SessionCheckpoint, TrainedModel } from '@lorasmith/queue';
import { pathOf } from './tinker-names.js';

/** The names of kinds of checkpoints in answers. */
const TYPES: Record<CheckpointKind, string> = {
  weights: 'training',
  sampler_weights: 'sampler',
  external_weights: 'external',
};

/** The owner of what was made without a key. */
const NOBODY = 'lorasmith';

/** Metadata as the client types them: texts alone. */
export function metadataOf(metadata: Record<string, unknown>): Record<string, string> {
  const textOf = (value: unknown) => (typeof value === 'string' ? value : JSON.stringify(value));
  return Object.fromEntries(Object.entries(metadata).map(([name, value]) => [name, textOf(value)]));
}

export function checkpointAnswer(model: string, checkpoint: SessionCheckpoint) {
  const { kind, name, created_at, bytes, expires_at, user_metadata, base_model } = checkpoint;
  return {
    checkpoint_id: `${kind}/${name}`,
    checkpoint_type: TYPES[kind],
    time: created_at,
    tinker_path: pathOf({ model, kind, name }),
    size_bytes: bytes,
    public: checkpoint.public,
    user_metadata: metadataOf(user_metadata),
    expires_at,
    base_model,
  };
}

export function runAnswer({ id, owner, record, used }: TrainedModel, checkpoints: readonly SessionCheckpoint[]) {
  const newest = (isWanted: (kind: CheckpointKind) => boolean) => {
    const found = checkpoints
      .filter(({ kind }) => isWanted(kind))
      .sort((one, other) => other.created_at.localeCompare(one.created_at))[0];
    return found === undefined ? null : checkpointAnswer(id, found);
  };
  return {
    training_run_id: id,
    base_model: record.spec.base_model,
    model_owner: (owner satisfies Owner) ?? NOBODY,
    is_lora: true,
    corrupted: false,
    lora_rank: record.spec.rank,
    last_request_time: new Date(used).toISOString(),
    last_checkpoint: newest((kind) => kind === 'weights'),
    last_sampler_checkpoint: newest((kind) => kind === 'sampler_weights'),
    user_metadata: metadataOf(record.user_metadata),
  };
}
