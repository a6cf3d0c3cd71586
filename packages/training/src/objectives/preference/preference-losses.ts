import { isLabelLoss, type PairLossName, type PreferenceLoss, type PreferenceObjective } from '@lorasmith/contracts';

/** The log-probabilities of a pair's answers, each summed over its trained tokens. */
export interface PairScores {
  chosen: number;
  rejected: number;
  /** Trained tokens of the answers. */
  chosenTokens: number;
  rejectedTokens: number;
  /** The same sums of the reference; null for a loss without one. */
  reference: { chosen: number; rejected: number } | null;
}

/** The loss of a pair, and its derivatives by the two sums. */
export interface PairLoss {
  loss: number;
  chosen: number;
  rejected: number;
}

type LossSettings = Pick<PreferenceObjective, 'beta' | 'label_smoothing' | 'gamma'>;

/** The loss of one pair, as TRL 1.16 has it, without the likelihood of the chosen answer that `sft_weight` adds. */
export function pairLoss(scores: PairScores, settings: LossSettings & { loss: PreferenceLoss }): PairLoss {
  const { loss } = settings;
  if (isLabelLoss(loss)) throw new Error(`${loss} is no loss of pairs`);
  return LOSSES[loss](scores, settings);
}

const LOSSES: Record<PairLossName, (scores: PairScores, settings: LossSettings) => PairLoss> = {
  sigmoid: (scores, { beta }) => ofMargin(scores, beta, (x) => [-logSigmoid(x), -sigmoid(-x)]),

  hinge: (scores, { beta }) => ofMargin(scores, beta, (x) => [Math.max(0, 1 - x), x < 1 ? -1 : 0]),

  robust: (scores, { beta, label_smoothing: e }) =>
    ofMargin(scores, beta, (x) => [
      (-(1 - e) * logSigmoid(x) + e * logSigmoid(-x)) / (1 - 2 * e),
      (-(1 - e) * sigmoid(-x) - e * sigmoid(x)) / (1 - 2 * e),
    ]),

  ipo: (scores, { beta }) =>
    ofMargin(perToken(scores), 1, (x) => [(x - 1 / (2 * beta)) ** 2, 2 * (x - 1 / (2 * beta))], scores),

  sigmoid_norm: (scores, { beta }) => ofMargin(perToken(scores), beta, (x) => [-logSigmoid(x), -sigmoid(-x)], scores),

  apo_zero(scores, { beta }) {
    const [chosen, rejected] = ratios(scores).map((ratio) => sigmoid(beta * ratio)) as [number, number];
    return {
      loss: 1 - chosen + rejected,
      chosen: -beta * chosen * (1 - chosen),
      rejected: beta * rejected * (1 - rejected),
    };
  },

  cpo: (scores, { beta, label_smoothing: e }) => ofMargin(scores, beta, (x) => smoothed(x, e)),

  simpo: (scores, { beta, label_smoothing: e, gamma }) =>
    ofMargin(perToken(scores), beta, (x) => smoothed(x - gamma, e), scores),

  /** The odds ratio; the likelihood that belongs to it is that of `sft_weight`. */
  orpo(scores, { beta }) {
    const { chosen, rejected } = notCertain(perToken(scores));
    const slope = -beta * sigmoid(-logOddsRatio(scores));
    return {
      loss: -beta * logSigmoid(logOddsRatio(scores)),
      chosen: (slope * (1 + 1 / Math.expm1(-chosen))) / scores.chosenTokens,
      rejected: (-slope * (1 + 1 / Math.expm1(-rejected))) / scores.rejectedTokens,
    };
  },
};

/** The logarithm of the odds of the chosen answer by those of the rejected one, each by its mean token. */
export function logOddsRatio(scores: PairScores): number {
  const { chosen, rejected } = notCertain(perToken(scores));
  return chosen - rejected - (log1mexp(chosen) - log1mexp(rejected));
}

/** The mean log-probabilities of a token. */
export function perToken(scores: PairScores): PairScores {
  const { chosenTokens, rejectedTokens, reference } = scores;
  const mean = ({ chosen, rejected }: { chosen: number; rejected: number }) => {
    return { chosen: chosen / chosenTokens, rejected: rejected / rejectedTokens };
  };
  return { ...scores, ...mean(scores), reference: reference && mean(reference) };
}

/**
 * Mean log-probabilities of answers whose odds are asked for. Rounded to float32, that of an answer of which the model is certain is 0, and its
 * odds would be infinite; it counts as half of what float32 can tell from a probability of 1.
 */
function notCertain({ chosen, rejected }: PairScores): Pick<PairScores, 'chosen' | 'rejected'> {
  const most = -(2 ** -25);
  return { chosen: Math.min(chosen, most), rejected: Math.min(rejected, most) };
}

/**
 * A loss that depends on beta times the difference of the answers alone.
 * @param loss of that number, and its derivative
 * @param sums the scores whose derivatives are wanted, where the difference is that of their means
 */
function ofMargin(
  scores: PairScores,
  beta: number,
  loss: (margin: number) => [loss: number, slope: number],
  sums: PairScores | null = null,
): PairLoss {
  const [chosen, rejected] = ratios(scores);
  const [value, slope] = loss(beta * (chosen - rejected));
  return {
    loss: value,
    chosen: (beta * slope) / (sums?.chosenTokens ?? 1),
    rejected: (-beta * slope) / (sums?.rejectedTokens ?? 1),
  };
}

/** The logarithms of how much more likely each answer is than under the reference; without one, its log-probability. */
export function ratios({ chosen, rejected, reference }: PairScores): [chosen: number, rejected: number] {
  return [chosen - (reference?.chosen ?? 0), rejected - (reference?.rejected ?? 0)];
}

/** The logistic loss of pairs of which the share `e` is the wrong way round. */
function smoothed(x: number, e: number): [number, number] {
  return [-(1 - e) * logSigmoid(x) - e * logSigmoid(-x), -(1 - e) * sigmoid(-x) + e * sigmoid(x)];
}

/** log(1 − e^x) for x < 0, exact on both sides of −log 2. */
function log1mexp(x: number): number {
  return x < -Math.LN2 ? Math.log1p(-Math.exp(x)) : Math.log(-Math.expm1(x));
}

/** An answer with a label. */
export interface AnswerScores {
  /** The logarithm of how much more likely it is than under the reference. */
  logRatio: number;
  /** True if the answer is wanted. */
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

/** The logistic function, without overflow. */
function sigmoid(x: number): number {
  return x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x));
}

/** Its logarithm. */
export function logSigmoid(x: number): number {
  return Math.min(x, 0) - Math.log1p(Math.exp(-Math.abs(x)));
}
