import type { Evaluation, JobFailure, TrainingOutcome } from '@lorasmith/contracts';
// Types alone: the worker must not load the engine.
import type { StopReason } from '@lorasmith/training';

/**
 * How a run ended. Each layer sees the ends that are possible there.
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
