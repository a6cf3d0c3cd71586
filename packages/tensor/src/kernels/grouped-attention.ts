import { add, multiply, softmax, square, subtract, sum, tanh } from '../arithmetic.js';
import { concat, gather, reshape, slice, split, transpose } from '../layout.js';
import { dispose, scope, type Tensor } from '../tensor.js';
import { cast, constant } from '../transfer.js';
import type { AttentionRows, AttentionSettings, BatchAttention, SavedAttention } from './attention.js';
import { batchMatMul } from './product.js';
import { rotate } from './rotary.js';
import { layoutGroups, type RowGroup } from './row-groups.js';

/** What the backward pass needs of one group of rows. */
export type SavedGroup = {
  /** `[rows, keyValueHeads, queriesPerKey × length, headDim]`, rotated */
  query: Tensor;
  /** `[rows, keyValueHeads, length, headDim]`, rotated */
  key: Tensor;
  value: Tensor;
  /** `[rows, keyValueHeads, queriesPerKey × length, length]` */
  weights: Tensor;
};

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

/** Attention in TensorFlow's own ops: rows of similar length at once, padded to the longest of them. */
export class GroupedAttention implements BatchAttention {
  readonly groups: readonly RowGroup[];

  constructor(rows: AttentionRows) {
    this.groups = layoutGroups(rows);
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
  const queriesPerKey = headCount / keyValueHeadCount;

  const padded = reshape(toPadded(qkv, group, false), [rows, length, allHeads, headDim]);
  const heads = transpose(padded, [0, 2, 1, 3]); // (rows, allHeads, length, headDim)
  const [queryAndKey, value] = split(heads, [headCount + keyValueHeadCount, keyValueHeadCount], 1);
  const rotated = rotate(queryAndKey!, group.rotary, 'forward');
  const [queryHeads, key] = split(rotated, [headCount, keyValueHeadCount], 1);
  const query = reshape(queryHeads!, [rows, keyValueHeadCount, queriesPerKey * length, headDim]);

  const scores = cast(batchMatMul(query, key!, { transposeB: true }), 'float32'); // (rows, kv, queriesPerKey x length, length)
  const adjusted = adjustScores(scores, settings);
  const masked = add(reshape(adjusted, [rows * headCount, length, length]), group.masks.get(settings.window)!);
  const weights = reshape(cast(softmax(masked), qkv.dtype), [rows, keyValueHeadCount, queriesPerKey * length, length]);
  const mixed = batchMatMul(weights, value!); // (rows, kv, queriesPerKey x length, headDim)

  const byToken = transpose(reshape(mixed, [rows, headCount, length, headDim]), [0, 2, 1, 3]); // (rows, length, heads, headDim)
  const output = toStream(reshape(byToken, [rows * length, headCount * headDim]), group);
  return { output, saved: record ? { query, key: key!, value: value!, weights } : null };
}

/** Scales scores and, with a softcap, caps them; float32. */
export function adjustScores(scores: Tensor, { scale, softcap }: AttentionSettings): Tensor {
  const scaled = multiply(scores, constant(scale));
  return softcap === null ? scaled : multiply(tanh(multiply(scaled, constant(1 / softcap))), constant(softcap));
}

/** Gradient of {@link adjustScores}. */
function adjustedGradient(gradient: Tensor, scores: Tensor, { scale, softcap }: AttentionSettings): Tensor {
  const scaled = multiply(gradient, constant(scale));
  if (softcap === null) return scaled;
  const height = tanh(multiply(scores, constant(scale / softcap)));
  return multiply(scaled, subtract(constant(1), square(height)));
}

function groupGradient(gradient: Tensor, saved: SavedGroup, group: RowGroup, settings: AttentionSettings): Tensor {
  const { heads: headCount, keyValueHeads: keyValueHeadCount, headDim } = settings;
  const { rows, length } = group;
  const { query, key, value, weights } = saved;
  const dtype = gradient.dtype;
  const grouped = [rows, keyValueHeadCount, (headCount / keyValueHeadCount) * length, headDim];

  // A padded query must not reach its keys: its gradient is zero.
  const padded = reshape(toPadded(gradient, group, true), [rows, length, headCount, headDim]);
  const mixedGradient = reshape(transpose(padded, [0, 2, 1, 3]), grouped); // (rows, kv, queriesPerKey x length, headDim)

  const valueGradient = batchMatMul(weights, mixedGradient, { transposeA: true }); // (rows, kv, length, headDim)
  const weightGradient = cast(batchMatMul(mixedGradient, value, { transposeB: true }), 'float32');
  // Softmax: dS = P (dP - sum(P dP)).
  const exactWeights = cast(weights, 'float32');
  const product = multiply(exactWeights, weightGradient);
  const scoreGradient = scope(() => {
    const rowSums = sum(product, -1, { keepDims: true });
    const byAdjusted = subtract(product, multiply(exactWeights, rowSums));
    // Only a cap needs the scores again.
    const scores =
      settings.softcap === null ? byAdjusted : cast(batchMatMul(query, key, { transposeB: true }), 'float32');
    return cast(adjustedGradient(byAdjusted, scores, settings), dtype);
  });
  const queryGradient = batchMatMul(scoreGradient, key); // (rows, kv, queriesPerKey x length, headDim)
  const keyGradient = batchMatMul(scoreGradient, query, { transposeA: true }); // (rows, kv, length, headDim)

  const queryHeads = reshape(queryGradient, [rows, headCount, length, headDim]);
  const unrotated = rotate(concat([queryHeads, keyGradient], 1), group.rotary, 'inverse');
  const heads = concat([unrotated, valueGradient], 1); // (rows, allHeads, length, headDim)
  const byToken = transpose(heads, [0, 2, 1, 3]);
  return toStream(reshape(byToken, [rows * length, (headCount + 2 * keyValueHeadCount) * headDim]), group);
}
