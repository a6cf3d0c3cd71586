import type { PreferenceObjective } from '@lorasmith/contracts';
import { type JoinedBatch, joinTokenBatches, rangesOf, type TokenBatch, tokenBatchOf } from '@lorasmith/models';
import { type PairExamples, type TokenPair, trainedOf } from '@lorasmith/planning';

/** Pairs of answers with what a job's loss needs of them. */
export interface JudgedPairs extends Pick<PairExamples, 'kind' | 'count'> {
  lengthOf(index: number): number;
  examples: PairExamples;
  settings: PreferenceObjective;
  /** `[pairs, 2]` log-probabilities of the chosen and the rejected answers under the reference; null for a loss without one. */
  reference: Float32Array | null;
}

/** Both sequences of each pair, in one stream with those of the others. */
export interface PairBatch {
  tokens: TokenBatch;
  pairs: readonly BatchPair[];
}

export interface BatchPair {
  settings: PreferenceObjective;
  /** The weight of the cross entropy of a label of the chosen sequence in the loss of the pair, besides what compares it. */
  likelihoodWeight: number;
  chosen: LabelRun;
  rejected: LabelRun;
  reference: { chosen: number; rejected: number } | null;
}

/** The labels of one sequence, which are next to each other. */
export interface LabelRun {
  first: number;
  count: number;
  /** `[count]` 1 for a label of the answer, 0 for one of the prompt, which only the likelihood of ORPO counts. */
  isAnswer: Uint8Array;
}

export function judgedPairs(
  examples: PairExamples,
  settings: PreferenceObjective,
  reference: Float32Array | null,
): JudgedPairs {
  const { kind, count } = examples;
  return { kind, count, lengthOf: (index) => examples.lengthOf(index), examples, settings, reference };
}

/** @param share see Objective */
export function pairBatchOf(
  { examples, settings, reference }: JudgedPairs,
  indices: ArrayLike<number>,
  share: number,
): PairBatch {
  const pairs = Array.from(indices, (index) => examples.pair(index));
  const hasPrompts = settings.loss === 'orpo' && settings.sft_weight > 0;
  const rows = pairs.flatMap(({ chosen, rejected }) => [hasPrompts ? allTrained(chosen) : chosen, rejected]);
  const tokens = tokenBatchOf(rows);
  const counts = tokens.order.map((row) => trainedOf({ trained: rows[row]!.trained.subarray(1) }));
  const runs: LabelRun[] = [];
  for (const [place, range] of rangesOf(counts).entries()) {
    const row = tokens.order[place]!;
    const pair = pairs[Math.floor(row / 2)]!;
    const answer = row % 2 === 0 ? pair.chosen : pair.rejected;
    const labels = rows[row]!.trained;
    runs[row] = { ...range, isAnswer: answer.trained.filter((_, token) => token > 0 && labels[token] === 1) };
  }
  return {
    tokens,
    pairs: pairs.map((_, i) => ({
      settings,
      likelihoodWeight: settings.sft_weight * share,
      chosen: runs[2 * i]!,
      rejected: runs[2 * i + 1]!,
      reference: reference && { chosen: reference[2 * indices[i]!]!, rejected: reference[2 * indices[i]! + 1]! },
    })),
  };
}

function allTrained({ ids }: TokenPair['chosen']): TokenPair['chosen'] {
  return { ids, trained: new Uint8Array(ids.length).fill(1) };
}

/** Batches one after the other. The labels of the whole are its pairs: each has one loss. */
export function joinPairBatches(batches: readonly PairBatch[]): JoinedBatch<PairBatch> {
  const { batch, tokens, labels } = joinTokenBatches(batches.map((one) => one.tokens));
  const pairs = batches.flatMap((one, i) => {
    const moved = (run: LabelRun) => ({ ...run, first: run.first + labels[i]!.first });
    return one.pairs.map((pair) => ({ ...pair, chosen: moved(pair.chosen), rejected: moved(pair.rejected) }));
  });
  return { batch: { tokens: batch, pairs }, tokens, labels: rangesOf(batches.map((one) => one.pairs.length)) };
}

/** Pairs by the tokens whose likelihood counts: how much a token has to count for a mean over tokens. */
export function likelihoodShare({ examples, settings }: JudgedPairs, batches: readonly ArrayLike<number>[]): number {
  const { loss, sft_weight: weight } = settings;
  if (weight === 0) return 1;
  let [pairs, tokens] = [0, 0];
  for (const indices of batches) {
    pairs += indices.length;
    for (const index of Array.from(indices)) {
      const { chosen } = examples.pair(index);
      tokens += loss === 'orpo' ? chosen.ids.length - 1 : trainedOf(chosen);
    }
  }
  return pairs / tokens;
}
