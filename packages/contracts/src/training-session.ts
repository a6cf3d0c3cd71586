import type { AdapterManifest, TrainingOutcome } from './adapter.js';
import type { ErrorCode } from './error.js';
import type { AdapterChecks, AdapterProbe } from './probe.js';
import type { AdapterId, ModelName, Owner, SnapshotId } from './schema-parts.js';

// A training session is a model that its client trains call by call. Its ops and their results are bytes of `v8.serialize`
// between the services, so that typed arrays stay typed arrays.

/** The losses of a session's forward-backward, over the log-probabilities of its targets. */
export const SESSION_LOSSES = ['cross_entropy', 'importance_sampling', 'ppo', 'cispo', 'dro', 'gspo'] as const;
export type SessionLoss = (typeof SESSION_LOSSES)[number];

/** The names of the inputs and settings that a loss takes, besides the targets. */
export interface SessionLossInputs {
  /** Fields that each datum has. */
  needs: readonly string[];
  /** Fields that it may have. */
  mayHave: readonly string[];
  /** Settings of the op that it may have, each a number. */
  settings: readonly string[];
  /** True if a position may have several targets. */
  isSoft: boolean;
}

const THRESHOLDS = ['clip_low_threshold', 'clip_high_threshold'];
const SAMPLED = { needs: ['logprobs', 'advantages'], mayHave: [], settings: [], isSoft: false };
const CLIPPED = { ...SAMPLED, mayHave: THRESHOLDS, settings: THRESHOLDS };

export const SESSION_LOSS_INPUTS: Readonly<Record<SessionLoss, SessionLossInputs>> = {
  cross_entropy: { needs: [], mayHave: ['weights'], settings: [], isSoft: true },
  importance_sampling: SAMPLED,
  ppo: CLIPPED,
  cispo: CLIPPED,
  dro: { ...SAMPLED, settings: ['beta'] },
  gspo: { ...CLIPPED, mayHave: [...THRESHOLDS, 'sequence_ratio_mask'] },
};

/** The most targets of a position, of soft targets. */
export const MAX_TARGETS_EACH = 64;
/** Limits, for docs/limits.md. */
export const sessionLimits = {
  targetsEach: { value: MAX_TARGETS_EACH, unit: 'targets', beyond: 'the forward-backward is refused' },
};

/** The alpha of every session's adapter: its scale is alpha / rank. */
export const SESSION_LORA_ALPHA = 32;

/** A row: the model's prediction at position i is compared with the targets of i. */
export interface SessionDatum {
  /** `[tokens]` */
  tokens: Int32Array;
  /** `[tokens * targetsEach]` */
  targets: Int32Array;
  /** Targets of each position: 1, or more of soft targets (cross_entropy alone). */
  targetsEach: number;
  /**
   * `[tokens * targetsEach]` each, under the name that the loss gives them: `weights` of cross_entropy (absent: 1); `logprobs` and `advantages`
   * of the others; absent or present `clip_low_threshold`, `clip_high_threshold` and `sequence_ratio_mask`.
   */
  fields: Record<string, Float32Array>;
}

/** The loss of some data, and its gradient added to that of the session, unless only the forward pass is wanted. */
export interface ForwardBackwardOp {
  kind: 'forward-backward';
  loss: SessionLoss;
  /** Numbers under the names that the loss gives them: `clip_low_threshold`, `clip_high_threshold`, `beta`. */
  settings: Record<string, number>;
  isForwardOnly: boolean;
  data: SessionDatum[];
}

/** One update by AdamW, with decoupled decay. The gradient is zero after it. */
export interface OptimizerStepOp {
  kind: 'optimizer-step';
  learning_rate: number;
  beta1: number;
  beta2: number;
  eps: number;
  weight_decay: number;
  /** The most that the norm of the whole gradient may be; 0: any. */
  grad_clip_norm: number;
}

/** PEFT files in a folder that exists and is empty, and the optimizer's state if asked. */
export interface SaveOp {
  kind: 'save';
  folder: string;
  withOptimizer: boolean;
  /** True: the gradient since the last step is kept beside the state of the optimizer. */
  withGradient: boolean;
  /** True: the files are read by samplers of the session alone, and no check of published adapters is made. */
  isEphemeral: boolean;
}

/** An adapter of the same base model, rank and targets, and the state of the optimizer if asked; else that is new. */
export interface LoadOp {
  kind: 'load';
  folder: string;
  withOptimizer: boolean;
  /** True: the gradient that was kept, if there was one, is that since the last step; else it is zero. */
  withGradient: boolean;
}

/** A call on the model of a session. */
export type SessionOp = ForwardBackwardOp | OptimizerStepOp | SaveOp | LoadOp;

/** The part of a manifest about an adapter that a session has saved. */
export type SavedSessionAdapter = Pick<TrainingOutcome, 'base_model' | 'lora' | 'versions' | 'files'> & {
  /** Null for ephemeral files. */
  checked: { probe: AdapterProbe; checks: AdapterChecks } | null;
  /** The file with the optimizer's state, which is not one of `files`; null without it. */
  optimizerFile: AdapterManifest['files'][number] | null;
  /** Optimizer steps that the adapter has had. */
  steps: number;
};

/** The result of a {@link SessionOp}. One that failed has changed nothing. */
export type SessionResult =
  | {
      kind: 'forward-backward';
      /** The log-probability of each target: `[tokens * targetsEach]` of each datum. */
      logProbabilities: Float32Array[];
      /** Figures by `name:reduction`; `loss:sum` is one. */
      metrics: Record<string, number>;
    }
  | { kind: 'optimizer-step'; metrics: Record<string, number> }
  | { kind: 'saved'; outcome: SavedSessionAdapter }
  | { kind: 'loaded' }
  | SessionFailure;

export interface SessionFailure {
  kind: 'failed';
  /** `user`: the op must be changed. `server`: it may be tried again, if the session still is. */
  category: 'user' | 'server';
  code: ErrorCode;
  message: string;
}

/** The model of a session that is open. */
export interface SessionModelDescription {
  base_model: AdapterManifest['base_model'];
  precision: 'float32' | 'bfloat16';
  /** The most tokens of a datum. */
  maxTokens: number;
  /** Token ids are below it. */
  vocabularySize: number;
  /** Numbers that are trained. */
  parameters: number;
  /** The linear layers that are adapted. */
  modules: string[];
}

/** The kinds of checkpoints of a session: to continue from, to sample from, or to use elsewhere. */
export const CHECKPOINT_KINDS = ['weights', 'sampler_weights', 'external_weights'] as const;
export type CheckpointKind = (typeof CHECKPOINT_KINDS)[number];

/** An op as the api sends it to a worker: it has the ids of what its folders are made of. */
export type QueuedSessionOp =
  | ForwardBackwardOp
  | OptimizerStepOp
  | {
      kind: 'save-checkpoint';
      adapter: AdapterId;
      checkpoint: { kind: CheckpointKind; name: string };
      withOptimizer: boolean;
      /** ISO 8601; null: it stays. */
      expires_at: string | null;
      user_metadata: Record<string, unknown>;
    }
  | { kind: 'save-snapshot'; snapshot: SnapshotId; sampler: Sampler }
  | { kind: 'load'; adapter: AdapterId; withOptimizer: boolean; path: string }
  /** A call that the api has refused. It has its place all the same: later calls wait for the number. */
  | { kind: 'refused'; failure: SessionFailure };

/** The source from which a client samples: a base model, an adapter of it, or a snapshot of a model in training. */
export interface Sampler {
  id: string;
  owner: Owner;
  session: string;
  base_model: ModelName;
  weights: AdapterId | SnapshotId | null;
  /** The name that the client gave; null for none. */
  model_path: string | null;
}

/** The result of a {@link QueuedSessionOp}. `opened` is that of a new model. */
export type QueuedSessionResult =
  | (Extract<SessionResult, { kind: 'forward-backward' }> & {
      /** Targets of each position, of each datum. */
      targetsEach: number[];
    })
  | Extract<SessionResult, { kind: 'optimizer-step' | 'failed' }>
  | { kind: 'loaded'; path: string }
  | { kind: 'opened'; described: SessionModelDescription }
  | { kind: 'saved'; bytes: number; steps: number; checkpoint: { kind: CheckpointKind; name: string } }
  | { kind: 'snapshot-saved'; sampler: string };
