import type { Decoder, TokenBatch } from '@lorasmith/models';
import { dispose, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import { type LabelLossOptions, labelLosses } from './label-losses.js';
import {
  type BatchLoss,
  type EvaluationMetrics,
  lossAndAccuracy,
  type OwnMetrics,
  type PassLoss,
} from './objective.js';

/** Losses of answers that depend on the model through the log-probabilities of their tokens alone. */
export interface JudgedLosses<Figure> {
  /** One for each loss, with `correct` (1 or 0) and `figures`. */
  losses: Float32Array;
  correct: Float32Array;
  figures: readonly Figure[];
  /** `[labels]` the derivative of the sum of the losses by each label's cross entropy. */
  weights: Float32Array;
}

/**
 * Runs a decoder over answers, and back where it is recorded.
 * @param judge makes losses of `[labels]` cross entropies
 */
export function judgedPass<Figure>(
  model: Decoder,
  batch: TokenBatch,
  options: Omit<LabelLossOptions, 'weigh'>,
  judge: (losses: Float32Array) => JudgedLosses<Figure>,
): PassLoss<Figure> {
  let found: JudgedLosses<Figure> | null = null;
  const weigh = (losses: Float32Array) => {
    found = judge(losses);
    return found.weights;
  };
  const labels = labelLosses(model, batch, { ...options, weigh });
  const { losses, correct, figures } = found ?? judge(toFloat32Array(labels.losses));
  dispose([labels.losses, labels.correct]);
  const count = losses.length;
  return { losses: tensorOf(losses, [count]), correct: tensorOf(correct, [count]), normaliser: count, figures };
}

/** The metrics of batches whose losses are those of answers. @param of the figures of all of them */
export function judgedMetrics<Figure>(
  losses: readonly BatchLoss<Figure>[],
  of: (figures: readonly Figure[]) => OwnMetrics,
): EvaluationMetrics {
  return { ...lossAndAccuracy(losses), perplexity: null, ...of(losses.flatMap(({ figures = [] }) => figures)) };
}
