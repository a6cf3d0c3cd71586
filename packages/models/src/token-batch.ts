import { LEAST_SHARED } from '@lorasmith/model-folder';
import type { TokenRange } from './pass.js';

/** Rows of tokens laid one after the other, without padding: every linear layer sees one stream. */
export interface TokenBatch {
  /** `[tokens]` */
  ids: Int32Array;
  /** `[rows]` tokens of each row, in the order of the stream. Rows of similar length are best neighbours. */
  rowLengths: number[];
  /** `[tokens of all rows]` where in the stream each is; null: the rows are the stream. Rows that begin alike may share tokens. */
  places: Int32Array | null;
  /** `[labels]` index of the token whose hidden state predicts a trained token; ascending. */
  predictors: Int32Array;
  /** `[labels]` that token. */
  labels: Int32Array;
  /** `[rows]` which of the given rows each row of the stream is. */
  order: readonly number[];
}

/** A row of tokens, of which some are targets of the loss. */
export interface TokenRow {
  ids: Int32Array;
  /** 1 for a target of the loss. The first of a row never is one. */
  trained: Uint8Array;
}

/** A rule that says whether the same tokens at the start of two rows have the same numbers, by the lengths of the rows: see hasSameRope of a decoder. */
export type RowsAlike = (length: number, other: number) => boolean;

/**
 * Lays rows into one stream, sorted by length so that attention can take similar rows together.
 * @param alike Which rows may share tokens: those that follow each other share what they begin with, as far as no label of either comes
 * next. @defaultValue none
 */
export function tokenBatchOf(rows: readonly TokenRow[], alike: RowsAlike = () => false): TokenBatch {
  const order = [...rows.keys()].sort((a, b) => rows[b]!.ids.length - rows[a]!.ids.length);
  const beginnings = beginningsOf(rows, alike);
  /** The position at which a row would begin if all its tokens were its own. */
  const starts = new Int32Array(rows.length);
  let tokens = 0;
  for (const index of order) {
    starts[index] = tokens - beginnings[index]!.length;
    tokens += rows[index]!.ids.length - beginnings[index]!.length;
  }
  const ids = new Int32Array(tokens);
  const places: number[] = [];
  const predictors: number[] = [];
  const labels: number[] = [];
  for (const index of order) {
    const { ids: own, trained } = rows[index]!;
    const { of, length } = beginnings[index]!;
    const start = starts[index]!;
    for (let token = 0; token < length; token++) places.push(starts[of]! + token);
    for (let token = length; token < own.length; token++) {
      places.push(start + token);
      ids[start + token] = own[token]!;
      if (token === 0 || trained[token] === 0) continue;
      predictors.push(start + token - 1);
      labels.push(own[token]!);
    }
  }
  return {
    ids,
    rowLengths: order.map((index) => rows[index]!.ids.length),
    places: places.length === tokens ? null : Int32Array.from(places),
    predictors: Int32Array.from(predictors),
    labels: Int32Array.from(labels),
    order,
  };
}

/** The tokens that a row shares with one before it. */
interface Beginning {
  of: number;
  length: number;
}

/** The row whose first tokens each row shares. All are their own where that saves little. */
function beginningsOf(rows: readonly TokenRow[], alike: RowsAlike): Beginning[] {
  let of = 0;
  const beginnings = rows.map((row, index) => {
    const isAlike = index > 0 && alike(rows[of]!.ids.length, row.ids.length);
    const length = isAlike ? commonLength(rows[of]!, row) : 0;
    if (length === 0) of = index;
    return { of, length };
  });
  const sum = (lengths: readonly number[]) => lengths.reduce((total, length) => total + length, 0);
  const saved = sum(beginnings.map(({ length }) => length));
  const isWorthIt = saved >= LEAST_SHARED * sum(rows.map(({ ids }) => ids.length));
  return isWorthIt ? beginnings : rows.map((_, index) => ({ of: index, length: 0 }));
}

/** The tokens that two rows begin with, up to the first that predicts a label of either. */
function commonLength(one: TokenRow, other: TokenRow): number {
  const most = Math.min(firstPredictor(one), firstPredictor(other));
  let length = 0;
  while (length < most && one.ids[length] === other.ids[length]) length++;
  return length;
}

function firstPredictor({ ids, trained }: TokenRow): number {
  const label = trained.indexOf(1, 1);
  return label === -1 ? ids.length : label - 1;
}

/** Tokens of all rows of a batch: those that they share count in each. */
export function tokensOfRows({ rowLengths }: Pick<TokenBatch, 'rowLengths'>): number {
  return rowLengths.reduce((sum, length) => sum + length, 0);
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
    places: batches.every(({ places }) => places === null)
      ? null
      : Int32Array.from(batches.flatMap((one, i) => [...placesOf(one)].map((place) => place + tokens[i]!.first))),
    predictors: Int32Array.from(
      batches.flatMap(({ predictors }, i) => [...predictors].map((p) => p + tokens[i]!.first)),
    ),
    labels: Int32Array.from(batches.flatMap(({ labels }) => [...labels])),
    order: batches.flatMap(({ order }, i) => order.map((row) => row + firstRows[i]!)),
  };
  return { batch, tokens, labels: rangesOf(batches.map(({ labels }) => labels.length)) };
}

function placesOf({ ids, places }: TokenBatch): Iterable<number> {
  return places ?? ids.keys();
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
