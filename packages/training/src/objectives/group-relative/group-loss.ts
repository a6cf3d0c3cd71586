import type { GroupMetrics, GroupRelativeObjective } from '@lorasmith/contracts';

/** A prompt of a dataset. */
export interface RolloutPrompt {
  /** `[tokens]` */
  ids: Int32Array;
  line: number;
}

/** A sampled answer. */
export interface SampledAnswer {
  /** `[tokens]`, with the one that ends it, if one does. */
  ids: Int32Array;
  /** `[tokens]` with which they were sampled, or which a pass before the first update has for them. */
  logProbabilities: Float32Array;
  hasEnded: boolean;
}

/** A sampled answer with its reward. */
export interface GradedAnswer extends SampledAnswer {
  reward: number;
}

/** A graded answer, with what its loss needs. */
export interface JudgedAnswer extends GradedAnswer {
  prompt: Int32Array;
  advantage: number;
  isFlat: boolean;
  /** `[tokens]` log-probabilities before the first update; null in the only step that trains on it. */
  sampled: Float32Array | null;
  /** `[tokens]` log-probabilities under the reference; null without one. */
  reference: Float32Array | null;
  /** The factor of a token's loss in that of the answer: losses of answers are averaged. */
  scale: number;
}

/** Added to a standard deviation before it divides, as in TRL. */
const EPSILON = 1e-4;
/** Smaller standard deviations are rounding, as for `torch.isclose`. */
const ZERO = 1e-8;

/** The advantages of the answers of a step over the others to the same prompt. */
interface Advantages {
  /** `[answers]` */
  values: Float64Array;
  /** `[groups]` true if all rewards of a group are the same, so that it trains nothing. */
  isFlat: boolean[];
}

/**
 * Rewards less the mean of their group, divided by a standard deviation (with Bessel's correction): of the group, of all rewards, or not.
 * TRL 1.16's `sum_then_normalize`.
 * @param rewards `[groups × size]`, group by group, all finite
 */
export function advantagesOf(
  rewards: Float64Array,
  { group_size: size, scale_rewards: scale }: Pick<GroupRelativeObjective, 'group_size' | 'scale_rewards'>,
): Advantages {
  const ofAll = deviationOf(rewards);
  const values = new Float64Array(rewards.length);
  const isFlat: boolean[] = [];
  for (let first = 0; first < rewards.length; first += size) {
    const group = rewards.subarray(first, first + size);
    const mean = meanOf(group);
    const deviation = deviationOf(group);
    const divisor = { group: deviation + EPSILON, batch: ofAll + EPSILON, none: 1 }[scale];
    for (let answer = 0; answer < group.length; answer++) values[first + answer] = (group[answer]! - mean) / divisor;
    isFlat.push(deviation <= ZERO);
  }
  return { values, isFlat };
}

/** The numbers that the loss of a token of a sampled answer depends on. */
export interface TokenScores {
  /** Its log-probability. */
  logProbability: number;
  /** The one with which it was sampled; null: the same, so that the ratio is 1. */
  sampled: number | null;
  /** The one under the reference; null: there is none. */
  reference: number | null;
  /** The advantage of its answer. */
  advantage: number;
}

interface TokenLoss {
  loss: number;
  /** The derivative of the loss by the log-probability. */
  slope: number;
  /** True: the ratio is beyond the bound that the advantage pushes it towards, so the token trains nothing but its divergence. */
  isClipped: boolean;
  /**
   * The estimate of the divergence from the reference (k3 of http://joschu.net/blog/kl-approx.html), times the ratio, so that its gradient
   * has no bias (arXiv:2512.02556); at least 0, and 0 without a reference.
   */
  divergence: number;
}

/** The loss of GRPO of one token (arXiv:2402.03300, equation 3), with a lower and an upper clip as in DAPO, and the divergence of DeepSeek-V3.2: that of TRL 1.16. */
export function tokenLoss(
  { logProbability, sampled, reference, advantage }: TokenScores,
  {
    clip_low: low,
    clip_high: high,
    kl_weight: weight,
  }: Pick<GroupRelativeObjective, 'clip_low' | 'clip_high' | 'kl_weight'>,
): TokenLoss {
  const ratio = sampled === null ? 1 : Math.exp(logProbability - sampled);
  const isClipped = (advantage < 0 && ratio < 1 - low) || (advantage > 0 && ratio > 1 + (high ?? low));
  const bounded = Math.min(Math.max(ratio, 1 - low), 1 + (high ?? low));
  const surrogate = Math.min(ratio * advantage, bounded * advantage);
  const behind = reference === null ? 0 : reference - logProbability;
  const divergence = ratio * (Math.exp(behind) - behind - 1);
  return {
    loss: weight * divergence - surrogate,
    // The ratio is differentiated, too.
    slope: -weight * ratio * behind - (isClipped ? 0 : ratio * advantage),
    isClipped,
    divergence,
  };
}

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

function meanOf(numbers: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < numbers.length; i++) sum += numbers[i]!;
  return sum / numbers.length;
}

/** The standard deviation with Bessel's correction; 0 of a single number. */
function deviationOf(numbers: ArrayLike<number>): number {
  if (numbers.length < 2) return 0;
  const mean = meanOf(numbers);
  let squares = 0;
  for (let i = 0; i < numbers.length; i++) squares += (numbers[i]! - mean) ** 2;
  return Math.sqrt(squares / (numbers.length - 1));
}
