import { alias, cast, concat, dispose, type FloatDType, reshape, scope, split, type Tensor } from '@lorasmith/tensor';
import type { Norm } from './norm.js';
import type { HeadShape, QueryKeyStep } from './query-key-step.js';

type SavedQueryKey = {
  /**
   * `[tokens × heads of the kind, headDim]`, or `[tokens, heads of the kind × headDim]`, in the model's dtype, before the
   * norm
   */
  query: Tensor;
  key: Tensor;
  queryInverseRms: Tensor;
  keyInverseRms: Tensor;
};

/** A norm of queries and one of keys, of each head (Dehghani et al. 2023, arXiv:2302.05442) or of all heads together. */
export class QueryKeyNorm implements QueryKeyStep<SavedQueryKey> {
  readonly query: Norm;
  readonly key: Norm;
  readonly #shape: HeadShape;
  readonly #width: 'head' | 'projection';

  /** @param query,key norms of size headDim; for `projection` of the size of all queries, and of all keys */
  constructor(shape: HeadShape, width: 'head' | 'projection', query: Norm, key: Norm) {
    this.#shape = shape;
    this.#width = width;
    this.query = query;
    this.key = key;
  }

  forward(qkv: Tensor, record: boolean): { output: Tensor; saved: SavedQueryKey | null } {
    return scope(() => {
      const dtype = qkv.dtype as FloatDType;
      const [query, key, value] = this.#parts(qkv);
      const normedQuery = this.query.forward(cast(query, 'float32'), dtype);
      const normedKey = this.key.forward(cast(key, 'float32'), dtype);
      const output = this.#whole(normedQuery.output, normedKey.output, value);
      if (!record) return { output, saved: null };
      const saved = {
        query,
        key,
        queryInverseRms: normedQuery.inverseRms,
        keyInverseRms: normedKey.inverseRms,
      };
      return { output, saved };
    });
  }

  backward(gradient: Tensor, saved: SavedQueryKey): Tensor {
    const { query, key, queryInverseRms, keyInverseRms } = saved;
    const result = scope(() => {
      const [byQuery, byKey, byValue] = this.#parts(gradient);
      return this.#whole(
        this.query.gradient(byQuery, cast(query, 'float32'), queryInverseRms, null).rounded,
        this.key.gradient(byKey, cast(key, 'float32'), keyInverseRms, null).rounded,
        byValue,
      );
    });
    dispose(saved);
    return result;
  }

  /** `[tokens, all heads × headDim]` → what is normed of queries and of keys, `[…, size of the norm]`, and values as they lie. */
  #parts(qkv: Tensor): [query: Tensor, key: Tensor, value: Tensor] {
    const { heads, keyValueHeads, headDim } = this.#shape;
    const widths = [heads * headDim, keyValueHeads * headDim, keyValueHeads * headDim];
    const [query, key, value] = split(qkv, widths, 1);
    if (this.#width === 'projection') return [alias(query!), alias(key!), alias(value!)];
    return [reshape(query!, [-1, headDim]), reshape(key!, [-1, headDim]), alias(value!)];
  }

  #whole(query: Tensor, key: Tensor, value: Tensor): Tensor {
    const tokens = value.shape[0]!;
    return concat([reshape(query, [tokens, -1]), reshape(key, [tokens, -1]), value], 1);
  }
}
