import type { TokenRange } from './pass.js';

/** Rows of tokens laid one after the other, without padding: every linear layer sees one stream. */
export interface TokenBatch {
  /** `[tokens]` */
  ids: Int32Array;
  /** `[rows]` tokens of each row, in the order of the stream. Rows of similar length are best neighbours. */
  rowLengths: number[];
  /** `[labels]` index of the token whose hidden state predicts a trained token; ascending. */
  predictors: Int32Array;
  /** `[labels]` that token. */
  labels: Int32Array;
  /** `[rows]` which of the given rows each row of the stream is. */
  order: readonly number[];
}

/**
 * Lays rows into one stream, sorted by length so that attention can take similar rows together.
 * @param rows token ids, and for each token whether it is a target of the loss (the first of a row never is)
 */
export function tokenBatchOf(rows: readonly { ids: Int32Array; trained: Uint8Array }[]): TokenBatch {
  const order = [...rows.keys()].sort((a, b) => rows[b]!.ids.length - rows[a]!.ids.length);
  const sorted = order.map((index) => rows[index]!);
  const ids = new Int32Array(sorted.reduce((sum, row) => sum + row.ids.length, 0));
  const predictors: number[] = [];
  const labels: number[] = [];
  let start = 0;
  for (const row of sorted) {
    ids.set(row.ids, start);
    for (let i = 1; i < row.ids.length; i++) {
      if (row.trained[i] === 0) continue;
      predictors.push(start + i - 1);
      labels.push(row.ids[i]!);
    }
    start += row.ids.length;
  }
  return {
    ids,
    rowLengths: sorted.map((row) => row.ids.length),
    predictors: Int32Array.from(predictors),
    labels: Int32Array.from(labels),
    order,
  };
}

/** Some labels of a batch that are next to each other. */
export interface LabelRange {
  first: number;
  count: number;
}

/** Batches that lie one after the other in one, so that one pass serves several adapters: each acts on its own tokens. */
export interface JoinedBatch<Batch> {
  batch: Batch;
  /** The tokens of each of the batches, in their order; for a classifier its rows. */
  tokens: readonly TokenRange[];
  /** The labels of each of the batches. */
  labels: readonly LabelRange[];
}

/** Lays batches one after the other. The rows of each follow those of the batches before it. */
export function joinTokenBatches(batches: readonly TokenBatch[]): JoinedBatch<TokenBatch> {
  const tokens = rangesOf(batches.map(({ ids }) => ids.length));
  const firstRows = batches.map((_, i) => batches.slice(0, i).reduce((sum, { order }) => sum + order.length, 0));
  const batch: TokenBatch = {
    ids: Int32Array.from(batches.flatMap(({ ids }) => [...ids])),
    rowLengths: batches.flatMap(({ rowLengths }) => rowLengths),
    predictors: Int32Array.from(
      batches.flatMap(({ predictors }, i) => [...predictors].map((p) => p + tokens[i]!.first)),
    ),
    labels: Int32Array.from(batches.flatMap(({ labels }) => [...labels])),
    order: batches.flatMap(({ order }, i) => order.map((row) => row + firstRows[i]!)),
  };
  return { batch, tokens, labels: rangesOf(batches.map(({ labels }) => labels.length)) };
}

/** Ranges of these sizes, one after the other. */
export function rangesOf(counts: readonly number[]): { first: number; count: number }[] {
  let next = 0;
  return counts.map((count) => {
    const first = next;
    next += count;
    return { first, count };
  });
}
