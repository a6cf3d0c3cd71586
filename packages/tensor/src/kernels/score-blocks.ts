import { slice } from '../layout.js';
import { scope, type Tensor } from '../tensor.js';
import { tensorOf } from '../transfer.js';
import type { AttentionRows } from './attention.js';
import { type RotaryTable, rotaryTable } from './rotary.js';

/** Queries at neighbouring positions of rows, and the keys that they see: their scores are computed at once. */
export interface ScoreBlock {
  /** Position of the first query. */
  firstQuery: number;
  queries: number;
  /** Position of the first key that any of the queries sees. The last one is at the position of the last query. */
  firstKey: number;
  keys: number;
}

/** Limit of the scores of one block, over all rows and heads: bounds the memory of a pass, however long the rows are. */
export const MOST_SCORES = 32 * 2 ** 20;
/** The most queries in a block of a row that takes several. Short blocks compute fewer scores that nobody sees; too short ones read keys too often. */
const MOST_QUERIES = 1024;
/** Block sizes are multiples of this, the size at which matrix products are fast. */
const QUERY_STEP = 64;
/** Added to a score, it makes the weight zero in float32, without the NaN that an infinity could cause. */
export const MASKED = -1e9;

/**
 * Cuts the scores of rows of one length into blocks, from the first query to the last. Keys that no query of a block sees
 * are in none.
 * @param window see AttentionSettings
 * @param heads in all the rows together
 */
export function scoreBlocks(
  length: number,
  window: number | null,
  heads: number,
  mostScores: number = MOST_SCORES,
): ScoreBlock[] {
  const most = Math.floor(mostScores / heads);
  if (length ** 2 <= most) return [{ firstQuery: 0, queries: length, firstKey: 0, keys: length }];
  const blocks: ScoreBlock[] = [];
  for (let firstQuery = 0; firstQuery < length; firstQuery += blocks.at(-1)!.queries) {
    const firstKey = window === null ? 0 : Math.max(0, firstQuery - window + 1);
    const seen = firstQuery - firstKey;
    // q queries see seen + q keys: the largest q with q (seen + q) ≤ most.
    const fitting = Math.floor((Math.sqrt(seen ** 2 + 4 * most) - seen) / 2);
    const stepped = fitting > QUERY_STEP ? fitting - (fitting % QUERY_STEP) : Math.max(1, fitting);
    const queries = Math.min(stepped, MOST_QUERIES, length - firstQuery);
    blocks.push({ firstQuery, queries, firstKey, keys: seen + queries });
  }
  return blocks;
}

/** The blocks of rows of one length, and which of its keys each query of a block sees. */
export class BlockMasks {
  readonly blocks: readonly ScoreBlock[];
  /**
   * `[queries, seen + queries]` float32: 0 where a query sees a key, else {@link MASKED}. What a query sees depends only on
   * how far back it lies, so the mask of every block is a part of this one.
   */
  readonly mask: Tensor;
  /** Keys before the first query of a block, in the block that has the most of them. */
  readonly #seen: number;

  constructor(blocks: readonly ScoreBlock[], window: number | null) {
    this.blocks = blocks;
    const queries = Math.max(...blocks.map((block) => block.queries));
    this.#seen = Math.max(...blocks.map(({ firstQuery, firstKey }) => firstQuery - firstKey));
    const keys = this.#seen + queries;
    const mask = new Float32Array(queries * keys);
    for (let query = 0; query < queries; query++) {
      const row = query * keys;
      const own = this.#seen + query;
      if (window !== null) mask.fill(MASKED, row, row + Math.max(0, own - window + 1));
      mask.fill(MASKED, row + own + 1, row + keys);
    }
    this.mask = tensorOf(mask, [queries, keys]);
  }

  /** `[queries, keys]` of a block. */
  of({ firstQuery, queries, firstKey, keys }: ScoreBlock): Tensor {
    const [allQueries, allKeys] = this.mask.shape;
    if (queries === allQueries && keys === allKeys) return this.mask;
    return slice(this.mask, [0, this.#seen - (firstQuery - firstKey)], [queries, keys]);
  }
}

/** Neighbouring rows of the token stream that attention computes at once, padded to the longest of them. */
export interface RowGroup {
  /** Index of its first token in the stream. */
  start: number;
  /** Tokens of its rows, without padding. */
  tokens: number;
  rows: number;
  /** Length of its longest row. */
  length: number;
  /**
   * Maps the group's tokens to `[rows × length]` and back; null if all its rows have the same length. Attention is
   * causal and the padding is at the end, so no real query sees a padded key, whatever its content.
   */
  padding: null | {
    /** `[rows × length]` index of the token in the group; for padding the first token of its row. */
    toPadded: Tensor;
    /** `[tokens]` index in `[rows × length]`. */
    toStream: Tensor;
    /** `[rows × length, 1]` float32: 1 for a token, 0 for padding. */
    mask: Tensor;
  };
  /** Angles of positions 0 … length - 1. */
  rotary: RotaryTable;
  /** The blocks in which scores are computed, by a layer's window. */
  masks: ReadonlyMap<number | null, BlockMasks>;
}

/** The shortest row of a group is at least this share of its longest. Padding costs time in attention only. */
const LEAST_SHARE = 0.8;
/** Minimum queries per row in a score block. A group takes no more long rows than leave this many, because every block reads all keys. */
const LEAST_QUERIES = 128;

/**
 * Cuts a batch into groups of rows of similar length.
 * @param lengths in the order of the stream; rows of similar length should be neighbours
 * @param heads of queries
 * @returns the lengths of each group's rows
 */
export function groupRows(lengths: readonly number[], heads: number, mostScores: number = MOST_SCORES): number[][] {
  const groups: number[][] = [];
  let shortest = 0;
  let longest = 0;
  for (const length of lengths) {
    const group = groups.at(-1);
    const nextShortest = Math.min(shortest, length);
    const nextLongest = Math.max(longest, length);
    const tooUneven = nextShortest < LEAST_SHARE * nextLongest && nextLongest > 32;
    const leastScores = heads * ((group?.length ?? 0) + 1) * nextLongest * Math.min(nextLongest, LEAST_QUERIES);
    if (group === undefined || tooUneven || leastScores > mostScores) {
      groups.push([length]);
      shortest = longest = length;
    } else {
      group.push(length);
      shortest = nextShortest;
      longest = nextLongest;
    }
  }
  return groups;
}

/** Lays out the rows of a batch for attention, by {@link groupRows}. */
export function layoutGroups(
  { lengths, heads, angles, windows }: AttentionRows,
  mostScores: number = MOST_SCORES,
): RowGroup[] {
  const bySize = new Map<string, Pick<RowGroup, 'rotary' | 'masks'>>();
  let start = 0;
  return groupRows(lengths, heads, mostScores).map((rows) => {
    const longest = Math.max(...rows);
    const size = `${rows.length} × ${longest}`;
    let shared = bySize.get(size);
    if (shared === undefined) {
      const masksOf = (window: number | null) =>
        new BlockMasks(scoreBlocks(longest, window, rows.length * heads, mostScores), window);
      const upTo = (table: Tensor) => slice(table, [0, 0], [longest, -1]);
      shared = {
        rotary: scope(() => rotaryTable({ cosine: upTo(angles.cosine), sine: upTo(angles.sine) })),
        masks: new Map(windows.map((window) => [window, masksOf(window)])),
      };
      bySize.set(size, shared);
    }
    const tokens = rows.reduce((sum, length) => sum + length, 0);
    const padding = rows.every((length) => length === longest) ? null : paddingOf(rows, longest);
    const group: RowGroup = { start, tokens, rows: rows.length, length: longest, padding, ...shared };
    start += tokens;
    return group;
  });
}

function paddingOf(lengths: readonly number[], longest: number): NonNullable<RowGroup['padding']> {
  const places = lengths.length * longest;
  const toPadded = new Int32Array(places);
  const toStream = new Int32Array(lengths.reduce((sum, length) => sum + length, 0));
  const mask = new Float32Array(places);
  let token = 0;
  for (const [row, length] of lengths.entries()) {
    // Padding reads a token of its own row, so that a NaN cannot get in from another row.
    toPadded.fill(token, row * longest, (row + 1) * longest);
    for (let position = 0; position < length; position++, token++) {
      const place = row * longest + position;
      toPadded[place] = token;
      toStream[token] = place;
      mask[place] = 1;
    }
  }
  return {
    toPadded: tensorOf(toPadded, [places]),
    toStream: tensorOf(toStream, [toStream.length]),
    mask: tensorOf(mask, [places, 1]),
  };
}
