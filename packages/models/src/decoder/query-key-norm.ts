import { alias, cast, concat, dispose, type FloatDType, reshape, scope, split, type Tensor } from '@lorasmith/tensor';
import type { Norm } from './norm.js';
import type { HeadShape, QueryKeyStep } from './query-key-step.js';

/** The norms of the heads of a layer; null: what it is of stays as it is. */
export interface HeadNorms {
  query: Norm;
  key: Norm | null;
  value: Norm | null;
}

/** The tensors that the norms of queries, keys and values keep, each null without a norm. */
type SavedQueryKey = readonly ({
  /** `[…, size of the norm]` in the model's dtype, before the norm */
  input: Tensor;
  inverseRms: Tensor;
} | null)[];

/** Columns of qkv that have one norm. */
interface Part {
  columns: number;
  /** Numbers of a norm. */
  size: number;
  norm: Norm | null;
}

/**
 * A norm of queries and one of keys, of each head (Dehghani et al. 2023, arXiv:2302.05442) or of all heads together; in some
 * families one of each head's values.
 */
export class QueryKeyNorm implements QueryKeyStep<SavedQueryKey> {
  readonly #parts: readonly Part[];

  /** @param norms of size headDim; those of queries and keys for `projection` of the size of all queries, and of all keys */
  constructor({ heads, keyValueHeads, headDim }: HeadShape, width: 'head' | 'projection', norms: HeadNorms) {
    const part = (count: number, norm: Norm | null, of: 'head' | 'projection'): Part => {
      const columns = count * headDim;
      return { columns, size: of === 'head' ? headDim : columns, norm };
    };
    const ofKeys = [part(keyValueHeads, norms.key, width), part(keyValueHeads, norms.value, 'head')];
    this.#parts = [part(heads, norms.query, width), ...(keyValueHeads === 0 ? [] : ofKeys)];
  }

  forward(qkv: Tensor, record: boolean): { output: Tensor; saved: SavedQueryKey | null } {
    return scope(() => {
      const dtype = qkv.dtype as FloatDType;
      const normed = this.#ofEach(qkv, (input, norm) => {
        const { output, inverseRms } = norm.forward(cast(input, 'float32'), dtype);
        return { output, saved: { input, inverseRms } };
      });
      const output = joined(normed);
      return { output, saved: record ? normed.map(({ saved = null }) => saved) : null };
    });
  }

  backward(gradient: Tensor, saved: SavedQueryKey): Tensor {
    const result = scope(() => {
      const byInputs = this.#ofEach(gradient, (byOutput, norm, part) => {
        const { input, inverseRms } = saved[part]!;
        return { output: norm.gradient(byOutput, cast(input, 'float32'), inverseRms, null).rounded };
      });
      return joined(byInputs);
    });
    dispose(saved);
    return result;
  }

  /**
   * @param compute of the columns with a norm, `[…, size of the norm]`
   * @returns of all columns, those without a norm as they lie, `[tokens, columns]`
   */
  #ofEach<Result extends { output: Tensor }>(
    qkv: Tensor,
    compute: (x: Tensor, norm: Norm, part: number) => Result,
  ): (Result | { output: Tensor; saved?: undefined })[] {
    const columns = split(
      qkv,
      this.#parts.map((part) => part.columns),
      1,
    );
    return this.#parts.map(({ size, norm, columns: width }, index) => {
      if (norm === null) return { output: alias(columns[index]!) };
      const result = compute(reshape(columns[index]!, [-1, size]), norm, index);
      return { ...result, output: reshape(result.output, [-1, width]) };
    });
  }
}

function joined(parts: readonly { output: Tensor }[]): Tensor {
  return concat(
    parts.map(({ output }) => output),
    1,
  );
}
