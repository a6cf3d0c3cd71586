import type { PreferenceMetrics } from '@lorasmith/contracts';
import {
  type JoinedBatch,
  joinTokenBatches,
  type LabelRange,
  type RowsAlike,
  rangesOf,
  type TokenBatch,
  tokenBatchOf,
} from '@lorasmith/models';
import type { StepContext } from '../objective.js';

/** Examples whose answers are judged, with what the loss of a job needs of them. */
export interface JudgedExamples {
  readonly count: number;
  /** Log-probabilities of an example under the reference that its loss needs; 0: it has no reference. */
  readonly referenceScores: number;
  /** Some of them, with what judges them. */
  batch(indices: ArrayLike<number>, context: StepContext): PreferenceBatch;
  /** The sequences of some of them that the reference reads: {@link referenceScores} of each. */
  scored(indices: ArrayLike<number>): SequenceBatch;
  /** The facts that the batches of a step, or of an evaluation, share. */
  context(batches: readonly ArrayLike<number>[], scoresOf: ScoresOf): Promise<StepContext>;
}

/** The log-probability of the answer of each sequence, in a forward pass of the model as it is. @throws ProductError `cancelled` */
export type ScoresOf = (batch: SequenceBatch) => Promise<Float32Array>;

/** A prompt with an answer, as a batch reads it. */
export interface JudgedSequence {
  /** `[tokens]` */
  ids: Int32Array;
  /** `[tokens]` 1 where a token is a label. The first is none: nothing predicts it. */
  labels: Uint8Array;
  /** `[tokens]` 1 for a token of the answer. */
  answer: Uint8Array;
}

/** Sequences in one stream, whose log-probabilities are asked for. */
export interface SequenceBatch {
  tokens: TokenBatch;
  /** The labels of each sequence, in the order in which the sequences were given. */
  runs: readonly LabelRun[];
}

/** The labels of one sequence, which are next to each other. */
export interface LabelRun extends LabelRange {
  /** `[count]` 1 for a label of the answer, 0 for one of the prompt, which only the likelihood of ORPO counts. */
  isAnswer: Uint8Array;
}

/** Sequences in one stream, with what judges them. */
export interface PreferenceBatch extends SequenceBatch {
  /** One for each loss. */
  judges: readonly Judge[];
}

/** The loss of a pair of answers, or of an answer with a label. */
export interface Judge {
  /** The count of sequences that are judged together. They follow those of the judge before. */
  sequences: number;
  judge(sums: readonly SequenceSums[]): Judgement;
}

/** The log-probabilities of a sequence. */
export interface SequenceSums {
  /** The sum over its answer, in float32 as a reference keeps it. */
  answer: number;
  answerTokens: number;
  /** The sum over all its labels. */
  all: number;
  /** Its labels. */
  tokens: number;
}

export interface Judgement {
  loss: number;
  /** The derivatives of the loss by the cross entropy of a label of an answer, and of its prompt: for each sequence. */
  weights: readonly { ofAnswer: number; ofPrompt: number }[];
  figures: PreferenceFigures;
}

/** @param alike See tokenBatchOf. */
export function sequenceBatchOf(sequences: readonly JudgedSequence[], alike: RowsAlike): SequenceBatch {
  const tokens = tokenBatchOf(
    sequences.map(({ ids, labels }) => ({ ids, trained: labels })),
    alike,
  );
  const isAnswer = sequences.map(({ labels, answer }) => answer.filter((_, token) => token > 0 && labels[token] === 1));
  const ranges = rangesOf(tokens.order.map((sequence) => isAnswer[sequence]!.length));
  const runs: LabelRun[] = [];
  for (const [position, sequence] of tokens.order.entries()) {
    runs[sequence] = { ...ranges[position]!, isAnswer: isAnswer[sequence]! };
  }
  return { tokens, runs };
}

/** Batches one after the other. The labels of the whole are its judges: each has one loss. */
export function joinPreferenceBatches(batches: readonly PreferenceBatch[]): JoinedBatch<PreferenceBatch> {
  const { batch, tokens, labels } = joinTokenBatches(batches.map((one) => one.tokens));
  const runs = batches.flatMap((one, i) => one.runs.map((run) => ({ ...run, first: run.first + labels[i]!.first })));
  const judges = batches.flatMap((one) => one.judges);
  return { batch: { tokens: batch, runs, judges }, tokens, labels: rangesOf(batches.map((one) => one.judges.length)) };
}

/** @param losses `[labels]` of the batch */
export function sumsOf(losses: Float32Array, { first, count, isAnswer }: LabelRun): SequenceSums {
  let [answer, answerTokens, all] = [0, 0, 0];
  for (let label = 0; label < count; label++) {
    const logProbability = -losses[first + label]!;
    all += logProbability;
    if (isAnswer[label] === 0) continue;
    answer += logProbability;
    answerTokens++;
  }
  return { answer: Math.fround(answer), answerTokens, all, tokens: count };
}

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
