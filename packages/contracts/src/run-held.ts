import type { Evaluation } from './adapter.js';

/** The end of a run at a step beyond which it may not go yet. It is saved, and continues from there when it may. */
export class RunHeld extends Error {
  override readonly name = 'RunHeld';
  readonly step: number;
  /** The evaluation after this step; null without rows to evaluate on. */
  readonly evaluation: Evaluation | null;

  constructor(step: number, evaluation: Evaluation | null) {
    super(`The training is held after step ${step}.`);
    this.step = step;
    this.evaluation = evaluation;
  }
}
