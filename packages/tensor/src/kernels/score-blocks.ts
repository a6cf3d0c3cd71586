import { slice } from '../layout.js';
import type { Tensor } from '../tensor.js';
import { tensorOf } from '../transfer.js';

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
