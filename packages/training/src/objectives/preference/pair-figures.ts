import type { PreferenceMetrics } from '@lorasmith/contracts';

/** The results of a pass for one pair of answers. */
export interface PairFigures {
  /** See PreferenceMetrics in contracts, also for those that follow. */
  rewards: { chosen: number; rejected: number };
  logps: { chosen: number; rejected: number };
  /** The negative log-probabilities of what `sft_weight` counts, summed over so many tokens; null where that is 0. */
  likelihood: { sum: number; tokens: number } | null;
  /** Null for a loss without it. */
  logOdds: { ratio: number; chosen: number } | null;
}

/** The means over all pairs, which belong to one job. */
export function preferenceMetrics(pairs: readonly PairFigures[]): PreferenceMetrics {
  const mean = (of: (pair: PairFigures) => number) => pairs.reduce((sum, pair) => sum + of(pair), 0) / pairs.length;
  const [first] = pairs;
  const tokens = pairs.reduce((sum, { likelihood }) => sum + (likelihood?.tokens ?? 0), 0);
  return {
    'rewards/chosen': mean(({ rewards }) => rewards.chosen),
    'rewards/rejected': mean(({ rewards }) => rewards.rejected),
    'rewards/accuracies': mean((pair) => (isRight(pair) ? 1 : 0)),
    'rewards/margins': mean(({ rewards }) => rewards.chosen - rewards.rejected),
    'logps/chosen': mean(({ logps }) => logps.chosen),
    'logps/rejected': mean(({ logps }) => logps.rejected),
    ...(first?.likelihood
      ? { nll_loss: pairs.reduce((sum, { likelihood }) => sum + likelihood!.sum, 0) / tokens }
      : {}),
    ...(first?.logOdds
      ? {
          log_odds_ratio: mean(({ logOdds }) => logOdds!.ratio),
          log_odds_chosen: mean(({ logOdds }) => logOdds!.chosen),
        }
      : {}),
  };
}

/** Whether the chosen answer has the higher reward. */
export function isRight({ rewards }: PairFigures): boolean {
  return rewards.chosen > rewards.rejected;
}
