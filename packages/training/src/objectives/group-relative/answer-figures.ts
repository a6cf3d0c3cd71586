import type { GroupMetrics } from '@lorasmith/contracts';
import { deviationOf, meanOf } from './advantages.js';

/** The facts about a sampled answer that metrics are made of. */
export interface AnswerFigures {
  reward: number;
  /** True: its whole group has the same reward. */
  isFlat: boolean;
  tokens: number;
  /** False: it was cut at its greatest length. */
  hasEnded: boolean;
  /** The results of a pass over it; null in an evaluation, which reads rewards alone. */
  trained: { clipped: number /** Summed; null without a reference. */; divergence: number | null } | null;
}

/** The means over all answers of a step, or of an evaluation. */
export function groupMetrics(figures: readonly AnswerFigures[]): GroupMetrics {
  const rewards = figures.map(({ reward }) => reward);
  const lengths = figures.map(({ tokens }) => tokens);
  const tokens = lengths.reduce((sum, length) => sum + length, 0);
  const trained = figures.flatMap((one) => one.trained ?? []);
  const perToken = (of: (one: (typeof trained)[number]) => number) =>
    trained.reduce((sum, one) => sum + of(one), 0) / tokens;
  return {
    reward: meanOf(rewards),
    reward_std: deviationOf(rewards),
    frac_reward_zero_std: share(figures, ({ isFlat }) => isFlat),
    'completions/mean_length': meanOf(lengths),
    'completions/clipped_ratio': share(figures, ({ hasEnded }) => !hasEnded),
    ...(trained.length === 0 ? {} : { 'clip_ratio/region_mean': perToken(({ clipped }) => clipped) }),
    ...(trained[0]?.divergence == null ? {} : { kl: perToken(({ divergence }) => divergence!) }),
  };
}

function share(figures: readonly AnswerFigures[], is: (one: AnswerFigures) => boolean): number {
  return figures.filter(is).length / figures.length;
}
