import type { StepContext } from '../step-context.js';
import type { PreferenceBatch, SequenceBatch } from './preference-batch.js';

/** Examples whose answers are judged, with what the loss of a job needs of them. */
export interface JudgedExamples {
  readonly count: number;
  /** Log-probabilities of an example under the reference that its loss needs; 0: it has no reference. */
  readonly referenceScores: number;
  /** Some of them, with what judges them. */
  batch(indices: ArrayLike<number>, context: StepContext): PreferenceBatch;
  /** The sequences of some of them that the reference reads: {@link referenceScores} of each. */
  scored(indices: ArrayLike<number>): SequenceBatch;
  /** The facts that the batches of a step, or of an evaluation, share. */
  context(batches: readonly ArrayLike<number>[], scoresOf: ScoresOf): Promise<StepContext>;
}

/** The log-probability of the answer of each sequence, in a forward pass of the model as it is. @throws ProductError `cancelled` */
export type ScoresOf = (batch: SequenceBatch) => Promise<Float32Array>;
