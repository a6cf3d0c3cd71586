import type { PreferenceMetrics } from '@lorasmith/contracts';

/** The results of a pass for one pair of answers, or for one answer with a label. */
export interface PreferenceFigures {
  /** The chosen answer, or one with the label true; null where there is none. */
  chosen: AnswerFigures | null;
  rejected: AnswerFigures | null;
  /** See `rewards/accuracies` of PreferenceMetrics in contracts. */
  isRight: boolean;
  /** The negative log-probabilities of what `sft_weight` counts, summed over so many tokens; null where that is 0. */
  likelihood: { sum: number; tokens: number } | null;
  /** Null for a loss without it; also those that follow. */
  logOdds: { ratio: number; chosen: number } | null;
  /** See PreferenceMetrics. The same for all answers of a step. */
  kl: number | null;
}

/** See PreferenceMetrics in contracts. */
export interface AnswerFigures {
  reward: number;
  logp: number;
}

/** The means over all pairs, or all answers with a label, which belong to one job. */
export function preferenceMetrics(figures: readonly PreferenceFigures[]): PreferenceMetrics {
  const [first] = figures;
  const chosen = figures.flatMap((one) => one.chosen ?? []);
  const rejected = figures.flatMap((one) => one.rejected ?? []);
  const reward = { chosen: mean(chosen, (one) => one.reward), rejected: mean(rejected, (one) => one.reward) };
  const tokens = figures.reduce((sum, { likelihood }) => sum + (likelihood?.tokens ?? 0), 0);
  return {
    ...(chosen.length > 0 ? { 'rewards/chosen': reward.chosen } : {}),
    ...(rejected.length > 0 ? { 'rewards/rejected': reward.rejected } : {}),
    'rewards/accuracies': mean(figures, (one) => (one.isRight ? 1 : 0)),
    ...(chosen.length > 0 && rejected.length > 0 ? { 'rewards/margins': reward.chosen - reward.rejected } : {}),
    ...(chosen.length > 0 ? { 'logps/chosen': mean(chosen, (one) => one.logp) } : {}),
    ...(rejected.length > 0 ? { 'logps/rejected': mean(rejected, (one) => one.logp) } : {}),
    ...(first?.kl == null ? {} : { kl: first.kl }),
    ...(first?.likelihood
      ? { nll_loss: figures.reduce((sum, { likelihood }) => sum + likelihood!.sum, 0) / tokens }
      : {}),
    ...(first?.logOdds
      ? {
          log_odds_ratio: mean(figures, ({ logOdds }) => logOdds!.ratio),
          log_odds_chosen: mean(figures, ({ logOdds }) => logOdds!.chosen),
        }
      : {}),
  };
}

function mean<Item>(items: readonly Item[], of: (item: Item) => number): number {
  return items.reduce((sum, item) => sum + of(item), 0) / items.length;
}
