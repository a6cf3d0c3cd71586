import {
  type JoinedBatch,
  joinTokenBatches,
  type LabelRange,
  type RowsAlike,
  rangesOf,
  type TokenBatch,
  tokenBatchOf,
} from '@lorasmith/models';
import type { PreferenceFigures } from './preference-figures.js';

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
  /** How many sequences are judged together. They follow those of the judge before. */
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
  for (const [place, sequence] of tokens.order.entries()) {
    runs[sequence] = { ...ranges[place]!, isAnswer: isAnswer[sequence]! };
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
