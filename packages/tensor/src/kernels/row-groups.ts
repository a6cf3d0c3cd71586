import { slice } from '../layout.js';
import { scope, type Tensor } from '../tensor.js';
import { tensorOf } from '../transfer.js';
import type { AttentionRows } from './attention.js';
import { type RotaryTable, rotaryTable } from './rotary.js';
import { BlockMasks, MOST_SCORES, scoreBlocks } from './score-blocks.js';

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
