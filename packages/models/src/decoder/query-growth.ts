import type { QueryGrowth } from '@lorasmith/model-folder';
import { concat, dispose, scope, split, type Tensor, tensorOf } from '@lorasmith/tensor';
import type { HeadShape } from './query-key-step.js';
import { scaledBy } from './scaled-by.js';

/**
 * The factors of the queries of a batch: 1 + β ln(1 + ⌊position / original⌋), as in Ministral 3 and Llama 4.
 * @param positions `[tokens]`
 * @returns `[tokens, 1]` float32; null if all are 1
 */
export function queryFactors(positions: Int32Array, growth: QueryGrowth | null): Tensor | null {
  if (growth === null || positions.every((position) => position < growth.originalMaxPositions)) return null;
  const { beta, originalMaxPositions } = growth;
  const factors = Float32Array.from(positions, (position) => {
    return 1 + beta * Math.log1p(Math.floor(position / originalMaxPositions));
  });
  return tensorOf(factors, [factors.length, 1]);
}

/**
 * The queries of qkv, or the gradient by them, times the factors of their positions. Takes qkv over.
 * @param qkv `[tokens, (heads + 2 × keyValueHeads) × headDim]`
 * @param factors `[tokens, 1]` float32
 */
export function growQueries(qkv: Tensor, factors: Tensor, { heads, keyValueHeads, headDim }: HeadShape): Tensor {
  const grown = scope(() => {
    const [query, rest] = split(qkv, [heads * headDim, 2 * keyValueHeads * headDim], 1);
    return concat([scaledBy(query!, factors), rest!], 1);
  });
  dispose(qkv);
  return grown;
}
