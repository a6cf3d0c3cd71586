import type { Evaluation } from './adapter.js';

/** A run cannot begin in this process now, in addition to those that it has. Nothing was changed; it can begin later, or in another process. */
export class JobDeferred extends Error {
  override readonly name = 'JobDeferred';
}

/** The end of a run at a rung of its sweep: it is saved, and continues from there if the sweep promotes it. */
export class RungReached extends Error {
  override readonly name = 'RungReached';
  readonly step: number;
  /** The evaluation after this step; null without rows to evaluate on. */
  readonly evaluation: Evaluation | null;

  constructor(step: number, evaluation: Evaluation | null) {
    super(`The training is paused at its rung, after step ${step}.`);
    this.step = step;
    this.evaluation = evaluation;
  }
}
