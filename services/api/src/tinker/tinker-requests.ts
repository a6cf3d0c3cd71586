import { MAX_RANK } from '@lorasmith/contracts';
import { type TSchema, Type } from 'typebox';

// The bodies of the calls as tinker 0.38.0 sends them. A newer client may send more fields, which are ignored.

const MAX_TEXT = 1_000;
const MAX_INTEGER = 2 ** 31 - 1;

const Id = Type.String({ maxLength: 200 });
const Text = Type.String({ maxLength: MAX_TEXT });
const Seq = Type.Integer({ minimum: 1, maximum: MAX_INTEGER });
const Number_ = Type.Integer({ minimum: 0, maximum: MAX_INTEGER });
const orNull = <Schema extends TSchema>(schema: Schema) => Type.Optional(Type.Union([schema, Type.Null()]));
const Metadata = orNull(Type.Record(Type.String(), Type.Unknown(), { maxProperties: 64 }));
const Seconds = orNull(Type.Integer({ minimum: 1, maximum: 10 * 366 * 86_400 }));
/** The name of a checkpoint, which is a part of its path. */
const CheckpointName = Type.String({ pattern: '^[A-Za-z0-9_][A-Za-z0-9._=@+-]{0,127}$' });

export const CreateSession = Type.Object({
  tags: Type.Optional(Type.Array(Text, { maxItems: 64 })),
  user_metadata: Metadata,
  sdk_version: orNull(Text),
  project_id: orNull(Text),
});

export const Heartbeat = Type.Object({ session_id: Id });

export const CreateModel = Type.Object({
  session_id: Id,
  model_seq_id: Number_,
  base_model: Text,
  user_metadata: Metadata,
  lora_config: orNull(
    Type.Object({
      rank: Type.Integer({ minimum: 1, maximum: MAX_RANK }),
      seed: orNull(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })),
      train_unembed: Type.Optional(Type.Boolean({ default: true })),
      train_mlp: Type.Optional(Type.Boolean({ default: true })),
      train_attn: Type.Optional(Type.Boolean({ default: true })),
    }),
  ),
  optimizer_config: orNull(Type.Object({ type: Text })),
});

export const ModelCall = Type.Object({ model_id: Id });

/** A call that has a place among those on its model. */
export const NumberedCall = Type.Object({ model_id: Id, seq_id: Seq });

export const OptimizerStep = Type.Object({
  model_id: Id,
  seq_id: Seq,
  adam_params: Type.Optional(
    Type.Object({
      learning_rate: Type.Optional(Type.Number({ minimum: 0, default: 1e-4 })),
      beta1: Type.Optional(Type.Number({ minimum: 0, exclusiveMaximum: 1, default: 0.9 })),
      beta2: Type.Optional(Type.Number({ minimum: 0, exclusiveMaximum: 1, default: 0.95 })),
      eps: Type.Optional(Type.Number({ minimum: 0, default: 1e-12 })),
      weight_decay: Type.Optional(Type.Number({ minimum: 0, default: 0 })),
      grad_clip_norm: Type.Optional(Type.Number({ minimum: 0, default: 0 })),
    }),
  ),
  optimizer_params: Type.Optional(Type.Unknown()),
});

export const SaveWeights = Type.Object({
  model_id: Id,
  seq_id: Seq,
  path: orNull(CheckpointName),
  ttl_seconds: Seconds,
  overwrite: orNull(Type.Boolean()),
  user_metadata: Metadata,
  sampling_session_seq_id: orNull(Number_),
  kind: orNull(Text),
  age_encryption_recipients: orNull(Type.Array(Type.Unknown(), { maxItems: 100 })),
});

export const LoadWeights = Type.Object({
  path: Text,
  optimizer: Type.Boolean(),
  model_id: orNull(Id),
  seq_id: orNull(Seq),
  session_id: orNull(Id),
  model_seq_id: orNull(Number_),
  base_model: orNull(Text),
  user_metadata: Metadata,
  optimizer_config: orNull(Type.Object({ type: Text })),
});

export const RetrieveFuture = Type.Object({ request_id: Id });

export const CreateSamplingSession = Type.Object({
  session_id: Id,
  sampling_session_seq_id: Number_,
  base_model: orNull(Text),
  model_path: orNull(Text),
});

export const WeightsInfo = Type.Object({ tinker_path: Text });

export const CopyWeights = Type.Object({
  source_path: Text,
  ttl_seconds: Seconds,
  session_id: orNull(Id),
  model_seq_id: orNull(Number_),
});

export const IdempotencyHeader = Type.Object({ 'x-idempotency-key': Type.Optional(Id) });

export const Ttl = Type.Object({ ttl_seconds: Type.Optional(Seconds) });

export const Page = Type.Object({
  limit: Type.Integer({ minimum: 1, maximum: 1_000, default: 20 }),
  offset: Type.Integer({ minimum: 0, default: 0 }),
});

export const CheckpointParams = Type.Object({ model: Id, kind: Type.String({ maxLength: 30 }), name: Id });
export const IdParams = Type.Object({ id: Id });
