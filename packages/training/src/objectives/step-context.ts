import type { ActingAdapter } from '@lorasmith/models';
import type { PassTurn } from '../turn.js';
import type { JudgedAnswer } from './group-relative/graded-answer.js';

/** The model as it is, for passes that only read it. */
export interface ForwardRun {
  adapters: readonly ActingAdapter[];
  passes: { turn: PassTurn };
  /** The step, from 0, that is about to be done; null: an evaluation. @defaultValue null */
  step?: number | null;
  /** The adapters of the reference; none: the base alone. @defaultValue none */
  reference?: readonly ActingAdapter[];
}

/** The facts that batches share which are averaged together: those of a step, or of an evaluation. */
export interface StepContext {
  /** The share of a token in a mean that is weighed against a mean over pairs: pairs by tokens of all these examples. */
  likelihoodShare: number;
  /** An estimate of how much the model differs from its reference, in nats; 0 for a loss that does not ask. */
  divergence: number;
  /** The graded answers to each prompt, by the index of its example; absent in other objectives. */
  groups?: ReadonlyMap<number, readonly JudgedAnswer[]>;
}
