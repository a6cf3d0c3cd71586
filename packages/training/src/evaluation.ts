import type { EvaluationProgress } from '@lorasmith/artifacts';
import { type EarlyStopping, type Evaluation, ProductError } from '@lorasmith/contracts';
import type { BatchSource } from './batches.js';
import type { BatchLoss, PassOptions } from './objectives/objective.js';
import { FORWARD_SHARE } from './shared-pass/engine-time.js';
import type { Participant } from './shared-pass/pass-scheduler.js';

/** Held-out examples, and those of each micro-batch. */
export interface HeldOut {
  source: BatchSource;
  microBatches: readonly number[][];
}

/** Metrics over held-out examples, without dropout. @throws ProductError cancelled before a batch */
export async function evaluate(
  { source, microBatches }: HeldOut,
  adapters: PassOptions['adapters'],
  passes: Pick<Participant, 'inEngineCall'>,
): Promise<Evaluation> {
  const losses: BatchLoss[] = [];
  let tokens = 0;
  let trained = 0;
  for await (const batch of source.batches(microBatches, { adapters, passes })) {
    losses.push(await passes.inEngineCall(FORWARD_SHARE * batch.computed, () => batch.loss({ adapters })));
    tokens += batch.tokens;
    trained += batch.labels;
  }
  return { ...source.metrics(losses), tokens, trained_tokens: trained };
}

/** Checks the loss of an evaluation. @param step after which it was made; 0: before training @throws ProductError non_finite_loss */
export function requireFinite({ loss }: Evaluation, step: number): void {
  if (Number.isFinite(loss)) return;
  const when = step === 0 ? 'before training' : `after step ${step}`;
  throw new ProductError(
    'non_finite_loss',
    `The loss of the evaluation ${when} is not a finite number (${loss}). Lower learning_rate, or check the rows to evaluate on. Nothing was published.`,
  );
}

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

  /** True if training should end now. */
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
