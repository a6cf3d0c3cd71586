import type { SessionDatum, SessionLoss } from '@lorasmith/contracts';

/** The ratios beyond which tokens of ppo, cispo and gspo are clipped, unless the op has others. */
const CLIP = { clip_low_threshold: 0.8, clip_high_threshold: 1.2 } as const;
/** The weight of the distance from the sampled log-probabilities in dro, unless the op has another. */
const BETA = 0.05;

/** The loss of a datum, and what of it depends on its targets. */
export interface DatumLoss {
  loss: number;
  /** `[targets]` the derivative of the loss by the cross entropy of each target. */
  weights: Float32Array;
  /** Targets that train nothing, since their ratio is clipped; null for a loss that clips none. */
  clipped: number | null;
}

/** A loss, over the log-probabilities of the targets of a datum alone. */
interface LossRule {
  /** The weights of a datum where they do not depend on the model; null: they do. */
  knownWeights(datum: SessionDatum): Float32Array | null;
  /** @param logProbabilities `[targets]` */
  of(logProbabilities: Float32Array, datum: SessionDatum, settings: Readonly<Record<string, number>>): DatumLoss;
}

/**
 * The losses, summed over tokens. With ℓ the log-probability of a target, q the one with which
 * it was sampled, A its advantage, and ρ = e^(ℓ - q):
 *
 * - cross_entropy: -Σ w ℓ
 * - importance_sampling: -Σ ρ A
 * - ppo (arXiv:1707.06347): -Σ min(ρ A, clip(ρ) A)
 * - cispo (arXiv:2506.13585): -Σ clip(ρ) A ℓ, where clip(ρ) is a constant
 * - dro (arXiv:2405.19107): -Σ (A ℓ - ½ β (ℓ - q)²)
 * - gspo (arXiv:2507.18071, the variant of tokens): ppo with the ratio of the sequence, e^(mean of ℓ - q over its mask)
 */
export const LOSS_RULES: Readonly<Record<SessionLoss, LossRule>> = {
  cross_entropy: {
    knownWeights: ({ targets, fields: { weights } }) => weights ?? new Float32Array(targets.length).fill(1),
    of(logProbabilities, datum) {
      const weights = this.knownWeights(datum)!;
      const loss = weights.reduce((sum, weight, i) => (weight === 0 ? sum : sum - weight * logProbabilities[i]!), 0);
      return { loss, weights, clipped: null };
    },
  },
  importance_sampling: ofTokens({}, ({ ratio, advantage }) => {
    return { loss: -ratio * advantage, weight: ratio * advantage };
  }),
  ppo: ofTokens({}, clippedToken),
  cispo: ofTokens({}, ({ logProbability, ratio, advantage, low, high }) => {
    const weight = clip(ratio, low, high) * advantage;
    return { loss: -weight * logProbability, weight };
  }),
  dro: ofTokens({ isZeroWithoutAdvantage: false }, ({ logProbability, sampled, advantage, beta }) => {
    const beyond = logProbability - sampled;
    return { loss: (beta / 2) * beyond ** 2 - advantage * logProbability, weight: advantage - beta * beyond };
  }),
  gspo: ofTokens({ ratioOf: sequenceRatio }, clippedToken),
};

interface TokenRule {
  /** The ratio of all tokens of a datum. @defaultValue each has its own */
  ratioOf?: (logProbabilities: Float32Array, datum: SessionDatum) => number;
  /** True: a token without advantage has no loss. A prompt has none, and its ratio may be beyond any number. @defaultValue true */
  isZeroWithoutAdvantage?: boolean;
}

/** The numbers that the loss of a target depends on. */
interface TokenTerms {
  logProbability: number;
  sampled: number;
  ratio: number;
  advantage: number;
  low: number;
  high: number;
  beta: number;
}

interface TokenLoss {
  loss: number;
  weight: number;
  isClipped?: boolean;
}

/** A loss that is a sum over sampled tokens. */
function ofTokens(
  { ratioOf, isZeroWithoutAdvantage = true }: TokenRule,
  lossOf: (terms: TokenTerms) => TokenLoss,
): LossRule {
  return {
    knownWeights: () => null,
    of(logProbabilities, datum, given) {
      const { clip_low_threshold: lows, clip_high_threshold: highs, ...fields } = datum.fields;
      const { clip_low_threshold: low, clip_high_threshold: high, beta } = { ...CLIP, beta: BETA, ...given };
      const shared = ratioOf?.(logProbabilities, datum);
      const weights = new Float32Array(logProbabilities.length);
      let loss = 0;
      let clipped: number | null = null;
      for (const [i, logProbability] of logProbabilities.entries()) {
        const [sampled, advantage] = [fields.logprobs![i]!, fields.advantages![i]!];
        if (advantage === 0 && isZeroWithoutAdvantage) continue;
        const ratio = shared ?? Math.exp(logProbability - sampled);
        const bounds = { low: lows?.[i] ?? low, high: highs?.[i] ?? high };
        const found = lossOf({ logProbability, sampled, ratio, advantage, beta, ...bounds });
        loss += found.loss;
        weights[i] = found.weight;
        if (found.isClipped !== undefined) clipped = (clipped ?? 0) + Number(found.isClipped);
      }
      return { loss, weights, clipped };
    },
  };
}

function clippedToken({ ratio, advantage, low, high }: TokenTerms): TokenLoss {
  const bounded = clip(ratio, low, high) * advantage;
  const isClipped = bounded < ratio * advantage;
  return { loss: -(isClipped ? bounded : ratio * advantage), weight: isClipped ? 0 : ratio * advantage, isClipped };
}

function sequenceRatio(logProbabilities: Float32Array, { fields }: SessionDatum): number {
  const { logprobs, sequence_ratio_mask: mask } = fields;
  let [sum, count] = [0, 0];
  for (const [i, logProbability] of logProbabilities.entries()) {
    if (mask !== undefined && mask[i] === 0) continue;
    sum += logProbability - logprobs![i]!;
    count++;
  }
  return count === 0 ? 1 : Math.exp(sum / count);
}

function clip(ratio: number, low: number, high: number): number {
  return Math.min(Math.max(ratio, low), high);
}
