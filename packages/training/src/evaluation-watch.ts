import type { EvaluationProgress } from '@lorasmith/artifacts';
import type { EarlyStopping, Evaluation } from '@lorasmith/contracts';

/**
 * Tracks the best evaluation so far, and when early stopping is due.
 *
 * Best is the lowest loss. For early stopping, as in Keras and Lightning, a gain is a loss that is more than `min_delta`
 * below the last one that was a gain. After `patience` evaluations without a gain training is over.
 */
export class EvaluationWatch {
  readonly #earlyStopping: EarlyStopping | null;
  #progress: EvaluationProgress = { best: null, reference: null, withoutGain: 0 };

  constructor(earlyStopping: EarlyStopping | null) {
    this.#earlyStopping = earlyStopping;
  }

  /** The progress that a checkpoint stores. */
  get progress(): EvaluationProgress {
    return this.#progress;
  }

  /** Continues from a checkpoint. */
  restore(progress: EvaluationProgress): void {
    this.#progress = progress;
  }

  get best(): EvaluationProgress['best'] {
    return this.#progress.best;
  }

  /** Whether training should end now. */
  get isExhausted(): boolean {
    return this.#earlyStopping !== null && this.#progress.withoutGain >= this.#earlyStopping.patience;
  }

  add(step: number, evaluation: Evaluation): void {
    const { best, reference, withoutGain } = this.#progress;
    const { loss } = evaluation;
    const isBest = best === null || loss < best.evaluation.loss;
    const isGain = reference === null || reference - loss > (this.#earlyStopping?.min_delta ?? 0);
    this.#progress = {
      best: isBest ? { step, evaluation } : best,
      reference: isGain ? loss : reference,
      withoutGain: isGain ? 0 : withoutGain + 1,
    };
  }
}
