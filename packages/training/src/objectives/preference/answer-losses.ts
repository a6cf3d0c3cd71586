import type { PreferenceObjective } from '@lorasmith/contracts';
import { sigmoid } from './logistic.js';

/** An answer with a label. */
export interface AnswerScores {
  /** The logarithm of how much more likely it is than under the reference. */
  logRatio: number;
  /** Whether it is wanted. */
  label: boolean;
  /** The estimate of how much the model differs from its reference: KL divergence in nats, at least 0. */
  divergence: number;
}

/** The loss of an answer, and its derivative by the log-probability. No gradient goes through the divergence. */
export interface AnswerLoss {
  loss: number;
  slope: number;
}

/**
 * The loss of one answer with a label, as TRL 1.16 has it: of `kto` (arXiv:2402.01306, equation 7), and with a divergence of 0 of
 * `apo_zero_unpaired`.
 */
export function answerLoss(
  { logRatio, label, divergence }: AnswerScores,
  settings: Pick<PreferenceObjective, 'beta' | 'desirable_weight' | 'undesirable_weight'>,
): AnswerLoss {
  const { beta } = settings;
  const weight = label ? settings.desirable_weight : settings.undesirable_weight;
  const sign = label ? 1 : -1;
  const margin = sign * beta * (logRatio - divergence);
  const loss = weight * sigmoid(-margin);
  return { loss, slope: -sign * beta * loss * sigmoid(margin) };
}
