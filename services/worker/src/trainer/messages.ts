import type {
  Dataset,
  JobFailure,
  JobId,
  JobSpec,
  MachineProfile,
  NewJobEvent,
  TrainingOutcome,
} from '@lorasmith/contracts';
import type { ExampleStoreOptions } from '@lorasmith/planning';

/**
 * Why a training is stopped before its end. `cancel`: the user wants it; a checkpoint is saved unless that takes long.
 * `shutdown`: the worker ends,
 * a checkpoint is saved. `time-limit`: the job has had its time, a checkpoint is saved. `lost-lock`: another worker may
 * have the job, nothing may be written any more.
 */
export type StopReason = 'cancel' | 'shutdown' | 'time-limit' | 'lost-lock';

/** The folders and files of one training. */
export interface TrainingPaths {
  modelFolder: string;
  rowsFile: string;
  /** Kept from one attempt to the next; the newest checkpoint in it is gone on from. */
  checkpointFolder: string;
  /** Of this attempt alone: the PEFT files are written into it. */
  outputFolder: string;
  initialAdapterFolder: string | null;
}

/** All that a trainer needs for one job. */
export interface TrainingOrder {
  job: JobId;
  spec: JobSpec;
  dataset: Dataset;
  machine: MachineProfile | null;
  /** Where its dataset is kept as tokens. */
  tokens: ExampleStoreOptions;
  paths: TrainingPaths;
}

/** All that a trainer needs to make an adapter of a checkpoint. */
export interface PublishOrder {
  job: JobId;
  spec: JobSpec;
  /** Of the job that trained. */
  checkpoint: { folder: string; step: number };
  paths: Pick<TrainingPaths, 'modelFolder' | 'outputFolder'>;
}

export type TrainerOrder = TrainingOrder | PublishOrder;

/**
 * From the worker to its trainer. `run` numbers the orders of one trainer, so that a late word about one is known.
 * `recycle`: the trainer has used up its handles; it goes on to the end of a step, saves a checkpoint, and another one
 * takes over. What no checkpoint keeps, an evaluation for instance, it does to its end.
 */
export type TrainerRequest =
  | { type: 'train'; run: number; order: TrainerOrder }
  | { type: 'recycle'; run: number }
  | { type: 'stop'; run: number; reason: StopReason };

/** From the trainer to its worker. Any of them proves that the trainer lives; `heartbeat` says nothing else. */
export type TrainerReply =
  | { type: 'heartbeat' }
  | { type: 'event'; run: number; event: NewJobEvent }
  | { type: 'finished'; run: number; outcome: TrainingOutcome }
  | { type: 'stopped'; run: number }
  | { type: 'recycled'; run: number }
  | { type: 'failed'; run: number; failure: JobFailure };
