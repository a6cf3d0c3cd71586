import { add, multiply, softmax, square, subtract, sum, tanh } from '../arithmetic.js';
import { concat, fill, gather, pad, reshape, slice, split, transpose } from '../layout.js';
import { dispose, scope, type Tensor } from '../tensor.js';
import { cast, constant } from '../transfer.js';
import type { AttentionRows, AttentionSettings, BatchAttention, SavedAttention } from './attention.js';
import { batchMatMul } from './product.js';
import { rotate } from './rotary.js';
import { layoutGroups, MOST_SCORES, type RowGroup, type ScoreBlock } from './score-blocks.js';

/** The tensors that the backward pass needs of one group of rows. */
export type SavedGroup = {
  /** `[rows, heads, length, headDim]`, rotated; with one block in the shape it computes with */
  query: Tensor;
  /** `[rows, keyValueHeads, length, headDim]`, rotated */
  key: Tensor;
  value: Tensor;
  /** Weights of each block, `[rows, keyValueHeads, queriesPerKey × queries, keys]`; null where they are computed again. */
  weights: Tensor[] | null;
};

/** Weights of longer rows are computed again in the backward pass: those of a token are as many as its row has. */
const MOST_TOKENS_WITH_WEIGHTS = 512;

/** Tokens of the stream → the group's tokens with padding, `[rows × length, width]`. */
function toPadded(x: Tensor, group: RowGroup, zeroPadding: boolean): Tensor {
  return scope(() => {
    const whole = x.shape[0] === group.tokens;
    const own = whole ? x : slice(x, [group.start, 0], [group.tokens, -1]);
    if (group.padding === null) return own;
    const padded = gather(own, group.padding.toPadded);
    return zeroPadding ? multiply(padded, cast(group.padding.mask, padded.dtype)) : padded;
  });
}

/** `[rows × length, width]` → the group's tokens without padding, `[tokens, width]`. */
function toStream(x: Tensor, group: RowGroup): Tensor {
  return group.padding === null ? x : gather(x, group.padding.toStream);
}

/**
 * Attention in TensorFlow's own ops: rows of similar length at once, padded to the longest of them; scores in blocks of
 * queries with all the keys that they see. Memory is linear in the length of the rows.
 */
export class GroupedAttention implements BatchAttention {
  readonly groups: readonly RowGroup[];

  /** @param mostScores see {@link MOST_SCORES} */
  constructor(rows: AttentionRows, mostScores: number = MOST_SCORES) {
    this.groups = layoutGroups(rows, mostScores);
  }

  /** @returns saved has one entry for each group */
  forward(qkv: Tensor, settings: AttentionSettings, record: boolean): { output: Tensor; saved: SavedGroup[] | null } {
    return scope(() => {
      const results = this.groups.map((group) => scope(() => attendGroup(qkv, group, settings, record)));
      const outputs = results.map((result) => result.output);
      return {
        output: outputs.length === 1 ? outputs[0]! : concat(outputs, 0), // [tokens, heads x headDim]
        saved: record ? results.map((result) => result.saved!) : null,
      };
    });
  }

  backward(gradient: Tensor, saved: SavedAttention, settings: AttentionSettings): Tensor {
    const savedGroups = saved as SavedGroup[];
    return scope(() => {
      const gradients = this.groups.map((group, i) => {
        const result = scope(() => groupGradient(gradient, savedGroups[i]!, group, settings));
        dispose(savedGroups[i]);
        return result;
      });
      return gradients.length === 1 ? gradients[0]! : concat(gradients, 0);
    });
  }
}

function attendGroup(
  qkv: Tensor,
  group: RowGroup,
  settings: AttentionSettings,
  record: boolean,
): { output: Tensor; saved: SavedGroup | null } {
  const { heads: headCount, keyValueHeads: keyValueHeadCount, headDim } = settings;
  const { rows, length } = group;
  const allHeads = headCount + 2 * keyValueHeadCount;

  const padded = reshape(toPadded(qkv, group, false), [rows, length, allHeads, headDim]);
  const heads = transpose(padded, [0, 2, 1, 3]); // (rows, allHeads, length, headDim)
  const [queryAndKey, value] = split(heads, [headCount + keyValueHeadCount, keyValueHeadCount], 1);
  const rotated = rotate(queryAndKey!, group.rotary, 'forward');
  const [queryHeads, key] = split(rotated, [headCount, keyValueHeadCount], 1);
  dispose([padded, heads, queryAndKey, rotated]);

  const keepsWeights = record && length <= MOST_TOKENS_WITH_WEIGHTS;
  const masks = group.masks.get(settings.window)!;
  const [first] = masks.blocks;
  const query = masks.blocks.length === 1 ? groupedQueries(queryHeads!, first!, settings) : queryHeads!;
  const blocks = masks.blocks.map((block) =>
    scope(() => {
      const own = blockOf(block, query, key!, value!, settings);
      const weights = softmaxOf(blockScores(own, settings), masks.of(block), own, settings);
      const mixed = batchMatMul(weights, own.value); // (rows, kv, queriesPerKey x queries, headDim)
      const byHead = reshape(mixed, [rows, headCount, block.queries, headDim]);
      return { mixed: byHead, weights: keepsWeights ? weights : null };
    }),
  );
  const mixed = joined(blocks.map((block) => block.mixed)); // (rows, heads, length, headDim)
  const byToken = transpose(mixed, [0, 2, 1, 3]); // (rows, length, heads, headDim)
  const output = toStream(reshape(byToken, [rows * length, headCount * headDim]), group);
  if (!record) return { output, saved: null };
  const weights = keepsWeights ? blocks.map((block) => block.weights!) : null;
  return { output, saved: { query, key: key!, value: value!, weights } };
}

/** Along the positions. */
function joined(blocks: Tensor[]): Tensor {
  return blocks.length === 1 ? blocks[0]! : concat(blocks, 2);
}

/** A part of the positions of `[rows, heads, length, headDim]`. */
function positionsOf(x: Tensor, first: number, count: number): Tensor {
  return count === x.shape[2] ? x : slice(x, [0, 0, first, 0], [-1, -1, count, -1]);
}

/** The heads that one block computes with. */
interface BlockHeads {
  /** `[rows, keyValueHeads, queriesPerKey × queries, headDim]` */
  query: Tensor;
  /** `[rows, keyValueHeads, keys, headDim]` */
  key: Tensor;
  value: Tensor;
  block: ScoreBlock;
}

function blockOf(
  block: ScoreBlock,
  query: Tensor,
  key: Tensor,
  value: Tensor,
  settings: AttentionSettings,
): BlockHeads {
  return {
    query: groupedQueries(query, block, settings),
    key: positionsOf(key, block.firstKey, block.keys),
    value: positionsOf(value, block.firstKey, block.keys),
    block,
  };
}

/** `[rows, heads, length, headDim]` → a block's, `[rows, keyValueHeads, queriesPerKey × queries, headDim]`. */
function groupedQueries(
  x: Tensor,
  { firstQuery, queries }: ScoreBlock,
  { heads, keyValueHeads, headDim }: AttentionSettings,
): Tensor {
  const groupedCount = (heads / keyValueHeads) * queries;
  const isGrouped = x.shape[1] === keyValueHeads && x.shape[2] === groupedCount;
  if (isGrouped) return x;
  return reshape(positionsOf(x, firstQuery, queries), [x.shape[0]!, keyValueHeads, groupedCount, headDim]);
}

/** An op on a tensor that nothing else needs. It is freed at once: scores are the largest tensors of a pass. */
function through(x: Tensor, ...ops: readonly ((x: Tensor) => Tensor)[]): Tensor {
  return ops.reduce((current, op) => {
    const next = op(current);
    if (next !== current) current.dispose();
    return next;
  }, x);
}

const exact = (x: Tensor): Tensor => cast(x, 'float32');

/** `[rows, keyValueHeads, queriesPerKey × queries, keys]` float32, scaled and capped, before the mask. */
function blockScores({ query, key }: BlockHeads, settings: AttentionSettings): Tensor {
  return through(batchMatMul(query, key, { transposeB: true }), exact, (scores) => adjustScores(scores, settings));
}

/**
 * Takes the scores over.
 * @returns the weights in the shape of the scores, in the dtype of the query
 */
function softmaxOf(scores: Tensor, mask: Tensor, { query, block }: BlockHeads, settings: AttentionSettings): Tensor {
  const { shape } = scores;
  const { queries, keys } = block;
  return through(
    scores,
    (x) => reshape(x, [x.size / (queries * keys), queries, keys]), // (rows x heads, queries, keys)
    (x) => add(x, mask),
    (x) => softmaxWithSinks(x, settings),
    (x) => cast(x, query.dtype),
    (x) => reshape(x, shape),
  );
}

/**
 * Softmax of scores and the sink of their head, if there are sinks.
 * @param scores `[rows × heads, queries, keys]`
 * @returns the weights of the scores
 */
export function softmaxWithSinks(scores: Tensor, { heads, sinks }: AttentionSettings): Tensor {
  if (sinks === undefined) return softmax(scores);
  return scope(() => {
    const [all, queries, keys] = scores.shape as [number, number, number];
    const none = fill([all / heads, heads, queries, 1], 0);
    const ofQueries = reshape(add(none, reshape(sinks, [heads, 1, 1])), [all, queries, 1]);
    return slice(softmax(concat([scores, ofQueries], 2)), [0, 0, 0], [-1, -1, keys]);
  });
}

/** Scales scores and, with a softcap, caps them; float32. */
export function adjustScores(scores: Tensor, { scale, softcap }: AttentionSettings): Tensor {
  if (softcap === null) return multiply(scores, constant(scale));
  return through(multiply(scores, constant(scale / softcap)), tanh, (height) => multiply(height, constant(softcap)));
}

function groupGradient(gradient: Tensor, saved: SavedGroup, group: RowGroup, settings: AttentionSettings): Tensor {
  const { heads: headCount, keyValueHeads: keyValueHeadCount, headDim, scale } = settings;
  const { rows, length } = group;
  const { dtype } = gradient;

  // A padded query must not reach its keys: its gradient is zero.
  const padded = reshape(toPadded(gradient, group, true), [rows, length, headCount, headDim]);
  const mixedGradient = transpose(padded, [0, 2, 1, 3]); // (rows, heads, length, headDim)
  const { query, key, value } = gradientInBlocks(mixedGradient, saved, group, settings);

  // All of a score's gradient has the scale as a factor; here it multiplies fewer numbers.
  const scaled = through(concat([query, key], 1), exact, (x) => multiply(x, constant(scale)));
  const unrotated = through(rotate(scaled, group.rotary, 'inverse'), (x) => cast(x, dtype));
  scaled.dispose();
  const heads = concat([unrotated, value], 1); // (rows, allHeads, length, headDim)
  const byToken = transpose(heads, [0, 2, 1, 3]);
  return toStream(reshape(byToken, [rows * length, (headCount + 2 * keyValueHeadCount) * headDim]), group);
}

/** Gradients by the rotated queries `[rows, heads, length, headDim]`, the rotated keys and the values, without the scale. */
type HeadGradients = { query: Tensor; key: Tensor; value: Tensor };

function gradientInBlocks(
  mixedGradient: Tensor,
  { query, key, value, weights }: SavedGroup,
  group: RowGroup,
  settings: AttentionSettings,
): HeadGradients {
  const masks = group.masks.get(settings.window)!;
  const sums = new KeySums();
  const queries: Tensor[] = [];
  for (const [index, block] of [...masks.blocks.entries()].reverse()) {
    const own = scope(() => {
      const heads = blockOf(block, query, key, value, settings);
      const byMixed = groupedQueries(mixedGradient, block, settings);
      return blockGradient(byMixed, heads, masks.of(block), weights?.[index] ?? null, settings);
    });
    if (masks.blocks.length === 1) return own;
    queries.unshift(own.query);
    sums.add(block, own.key, own.value);
  }
  return { query: joined(queries), ...sums.take(settings.keyValueHeads, key.dtype) };
}

/**
 * @param byMixed `[rows, keyValueHeads, queriesPerKey × queries, headDim]`
 * @param saved the block's weights; null: they are computed again
 */
function blockGradient(
  byMixed: Tensor,
  heads: BlockHeads,
  mask: Tensor,
  saved: Tensor | null,
  settings: AttentionSettings,
): HeadGradients {
  const { query, key, value, block } = heads;
  const { heads: headCount, headDim, softcap } = settings;
  // With a cap, the slope of a score follows from the score.
  const scores = saved === null || softcap !== null ? blockScores(heads, settings) : null;
  const slope = softcap === null ? null : slopeOf(scores!, softcap);
  const weights = saved ?? softmaxOf(scores!, mask, heads, settings);
  if (scores !== null) scores.dispose();

  const valueGradient = batchMatMul(weights, byMixed, { transposeA: true }); // (rows, kv, keys, headDim)
  const exactWeights = exact(weights);
  if (weights !== saved && weights !== exactWeights) weights.dispose();
  const weightGradient = through(batchMatMul(byMixed, value, { transposeB: true }), exact);
  // Softmax: dS = P (dP - sum(P dP)).
  const product = multiply(exactWeights, weightGradient);
  weightGradient.dispose();
  const rowSums = sum(product, -1, { keepDims: true });
  const shared = multiply(exactWeights, rowSums);
  if (exactWeights !== saved) exactWeights.dispose();
  const byAdjusted = subtract(product, shared);
  dispose([product, shared]);
  const scoreGradient = through(
    byAdjusted,
    (x) => (slope === null ? x : multiply(x, slope)),
    (x) => cast(x, query.dtype),
  );
  const queryGradient = batchMatMul(scoreGradient, key); // (rows, kv, queriesPerKey x queries, headDim)
  return {
    query: reshape(queryGradient, [query.shape[0]!, headCount, block.queries, headDim]),
    key: batchMatMul(scoreGradient, query, { transposeA: true }), // (rows, kv, keys, headDim)
    value: valueGradient,
  };
}

/** The slope of capped scores: 1 - tanh². */
function slopeOf(capped: Tensor, softcap: number): Tensor {
  return through(multiply(capped, constant(1 / softcap)), square, (height) => subtract(constant(1), height));
}

/**
 * Adds up what blocks give to the same keys and values, from the last block to the first. A key that no earlier block sees
 * is finished, so every sum is as long as one block's keys.
 */
class KeySums {
  /** `[rows, 2 × keyValueHeads, keys, headDim]` float32: of the keys that earlier blocks may see. */
  #open: { sum: Tensor; first: number; end: number } | null = null;
  readonly #finished: Tensor[] = [];

  /** Takes the gradients over. */
  add({ firstKey, keys }: ScoreBlock, key: Tensor, value: Tensor): void {
    const end = firstKey + keys;
    const own = through(concat([key, value], 1), exact);
    dispose([key, value]);
    const before = this.#open;
    this.#open = { sum: own, first: firstKey, end };
    if (before === null) return;
    if (before.first === end) {
      this.#finished.unshift(before.sum);
      return;
    }
    const [shared, finished] = split(before.sum, [end - before.first, before.end - end], 2);
    this.#finished.unshift(finished!);
    const none: [number, number] = [0, 0];
    const aligned =
      before.first === firstKey ? shared! : pad(shared!, [none, none, [before.first - firstKey, 0], none]);
    this.#open.sum = add(own, aligned);
    dispose([before.sum, shared, aligned, own]);
  }

  /** @returns `[rows, keyValueHeads, length, headDim]` each */
  take(keyValueHeads: number, dtype: Tensor['dtype']): { key: Tensor; value: Tensor } {
    const all = through(joined([this.#open!.sum, ...this.#finished]), (x) => cast(x, dtype));
    const [key, value] = split(all, [keyValueHeads, keyValueHeads], 1);
    dispose([all, this.#open!.sum, this.#finished]);
    return { key: key!, value: value! };
  }
}
