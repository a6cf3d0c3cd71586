import type {
  BaseQuantization,
  Evaluation,
  GenerationChunk,
  GenerationFailure,
  GenerationRequest,
  GradingBatch,
  GradingOutcome,
  JobFailure,
  JobId,
  JobSpec,
  MachineProfile,
  NewJobEvent,
  SessionModelDescription,
  SessionModelSpec,
  SessionOp,
  SessionResult,
  TrainingOutcome,
  TrainingSettings,
  UploadedDataset,
} from '@lorasmith/contracts';
import type { ExampleStoreOptions, ValidationRows } from '@lorasmith/planning';
// Types alone: the worker must not load the engine.
import type { StopReason } from '@lorasmith/training';
import type { CodedFailure } from './trainer-failure.js';

/**
 * The end of a run. Each layer sees the ends that are possible there.
 *
 * - `stopped`: it was asked to, for this reason.
 * - `recycled`: it stopped after a step, with a checkpoint, so that another trainer can continue it.
 * - `displaced`: its trainer was killed for another of its runs, which did not stop.
 * - `deferred`: it could not begin while the other runs of its trainer continued; nothing of it was done.
 * - `at-rung`: it has reached the rung of its sweep, and is saved.
 * - `paused`: on request, or because the pool takes fewer runs than it did. It continues from its checkpoint.
 */
export type RunOutcome =
  | { kind: 'finished'; outcome: TrainingOutcome }
  | { kind: 'failed'; failure: JobFailure }
  | { kind: 'stopped'; reason: StopReason }
  | { kind: 'recycled' }
  | { kind: 'displaced' }
  | { kind: 'deferred'; why: string }
  | { kind: 'at-rung'; step: number; evaluation: Evaluation | null }
  | { kind: 'paused' };

type Without<Kind extends RunOutcome['kind']> = Exclude<RunOutcome, { kind: Kind }>;

/** The outcomes of a run that a trainer reports. */
export type ReportedOutcome = Without<'displaced' | 'paused'>;

/** The end of a run in one trainer, which may have been killed. */
export type TrainerOutcome = Without<'paused'>;

/** The end of a run in the pool, which continues it in further trainers. */
export type PoolOutcome = Without<'recycled' | 'displaced'>;

/** The folders and files of one training. */
interface TrainingPaths {
  modelFolder: string;
  rowsFile: string;
  /** Shared by the attempts of a job; the training is resumed from the newest checkpoint in it. */
  checkpointFolder: string;
  /** The folder of this attempt alone: the PEFT files are written into it. */
  outputFolder: string;
  initialAdapterFolder: string | null;
}

/** The share of a run in a trainer that several runs use. */
interface RunShare {
  /** Runs of the same key share what the key gets. */
  key: string;
  keyWeight: number;
  jobWeight: number;
}

/** Train an adapter. */
export interface TrainOrder {
  kind: 'train';
  job: JobId;
  spec: JobSpec;
  dataset: UploadedDataset;
  /** The dataset that `validation.dataset` names. */
  validation: ValidationRows | null;
  machine: MachineProfile | null;
  /** The store of datasets as tokens. */
  tokens: ExampleStoreOptions;
  /** Folder in which digests of weights are remembered; see WeightDigests. */
  weightDigests: string;
  share: RunShare;
  /** The step of its rung, after which the run is paused; null: none. */
  rungStep: number | null;
  paths: TrainingPaths;
}

/** Make an adapter of a checkpoint. */
export interface PublishCheckpointOrder {
  kind: 'publish-checkpoint';
  job: JobId;
  spec: JobSpec;
  /** The checkpoint of the job that trained. */
  checkpoint: { folder: string; step: number };
  /** See TrainOrder. */
  weightDigests: string;
  share: RunShare;
  paths: Pick<TrainingPaths, 'modelFolder' | 'outputFolder'>;
}

/** Answer a request for text. */
export interface GenerationOrder {
  request: GenerationRequest;
  modelFolder: string;
  /** null: the base model alone. */
  adapterFolder: string | null;
  /** The precision of the adapter's training; `auto`, as a job has it, for the base model alone and imported adapters. */
  precision: TrainingSettings['precision'];
  /** The quantization of that training; `none` for the base model alone and imported adapters. */
  quantization: BaseQuantization;
  /** The form in which the trainer has the base model for its runs, or is about to; `auto`: only it can tell the precision. */
  inTrainer: { precision: TrainingSettings['precision']; quantization: BaseQuantization };
  machine: MachineProfile | null;
  /** See TrainOrder. */
  weightDigests: string;
}

/** Open a training session, whose client trains op by op. */
export interface SessionOrder {
  kind: 'session';
  spec: SessionModelSpec;
  modelFolder: string;
  precision: TrainingSettings['precision'];
  machine: MachineProfile | null;
  /** See TrainOrder. */
  weightDigests: string;
  share: RunShare;
}

/**
 * The end of a training session in its trainer.
 *
 * - `closed`: it was asked to.
 * - `deferred`: it could not be opened while the runs of the trainer continue.
 * - `failed`: it could not be opened at all, or its trainer has ended. What was not saved is lost.
 */
export type SessionEnd =
  | { kind: 'closed' }
  | { kind: 'deferred'; why: string }
  | { kind: 'failed'; failure: CodedFailure };

/** Numbers of tokens of an answer. */
export interface TokenCounts {
  prompt: number;
  completion: number;
}

/** Everything that a trainer needs for one run. */
export type TrainerOrder = TrainOrder | PublishCheckpointOrder;

/**
 * Messages from the worker to its trainer. A trainer may have several runs; `run` is the number of one, never used again by the
 * same trainer, so that a late message is not taken for one about another run.
 *
 * `recycle`: the run finishes its step, saves a checkpoint and stops, and another trainer, or this one later, continues it.
 * What no checkpoint has, such as an evaluation, is finished first.
 *
 * An answer to a request for text counts as a run; `cancel` ends it. So does a training session; `close-session` cancels its ops, and ends it.
 *
 * `graded`: the answer to the message `grade` with the same number. A trainer reaches nothing outside: its worker has the webhook of a grader
 * asked.
 */
export type TrainerRequest =
  | { type: 'start'; run: number; order: TrainerOrder }
  | { type: 'recycle'; run: number }
  | { type: 'stop'; run: number; reason: StopReason }
  | { type: 'graded'; run: number; grading: number; outcome: GradingOutcome }
  | { type: 'generate'; run: number; order: GenerationOrder }
  | { type: 'cancel'; run: number }
  | SessionRequest;

/** Messages about a training session. `op` is the number of an op in it. */
export type SessionRequest =
  | { type: 'open-session'; run: number; order: SessionOrder }
  | { type: 'do-op'; run: number; op: number; content: SessionOp }
  | { type: 'close-session'; run: number };

/** Messages from the trainer to its worker. Nothing about a run follows its end. */
export type TrainerReply =
  | { type: 'event'; run: number; event: NewJobEvent }
  | { type: 'grade'; run: number; grading: number; batch: GradingBatch }
  | { type: 'ended'; run: number; outcome: ReportedOutcome }
  | GenerationReply
  | SessionReply;

/** Messages about a training session. Nothing follows its end, and each op has one result. */
export type SessionReply =
  | { type: 'session-opened'; run: number; described: SessionModelDescription }
  | { type: 'op-done'; run: number; op: number; result: SessionResult }
  | { type: 'session-ended'; run: number; end: SessionEnd };

/** Messages about an answer to a request for text. Nothing follows one of the last three. */
type GenerationReply =
  | { type: 'piece'; run: number; piece: GenerationChunk }
  | { type: 'answered'; run: number; tokens: TokenCounts }
  | { type: 'cancelled'; run: number }
  | { type: 'answer-failed'; run: number; failure: GenerationFailure };
