import type { GroupRelativeObjective } from '@lorasmith/contracts';

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

export interface TokenLoss {
  loss: number;
  /** The derivative of the loss by the log-probability. */
  slope: number;
  /** True: the ratio is beyond a bound on the side where the advantage pushes it, so the token trains nothing but its divergence. */
  isClipped: boolean;
  /**
   * The estimate of the divergence from the reference (k3 of http://joschu.net/blog/kl-approx.html), times the ratio, so that its gradient
   * has no bias (arXiv:2512.02556); at least 0, and 0 without a reference.
   */
  divergence: number;
}

/** The loss of GRPO of one token (arXiv:2402.03300, equation 3), with a clip for each side as in DAPO, and the divergence of DeepSeek-V3.2: that of TRL 1.16. */
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
