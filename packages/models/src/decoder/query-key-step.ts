import type { QueryGrowth } from '@lorasmith/model-folder';
import {
  alias,
  cast,
  concat,
  dispose,
  type FloatDType,
  reshape,
  scope,
  split,
  type Tensor,
  tensorOf,
  transpose,
} from '@lorasmith/tensor';
import type { Saved } from '../pass.js';
import type { Norm } from './norm.js';
import { scaledBy } from './scaled-by.js';

/** The operation of a layer on each head's query and key before attention rotates them. */
export interface QueryKeyStep<Kept extends Saved = Saved> {
  /**
   * @param qkv `[tokens, (heads + 2 × keyValueHeads) × headDim]`
   * @returns the same shape; saved is null without `record`
   */
  forward(qkv: Tensor, record: boolean): { output: Tensor; saved: Kept | null };
  /**
   * Frees what was saved.
   * @param gradient by the output
   * @returns by qkv
   */
  backward(gradient: Tensor, saved: Kept): Tensor;
}

/** Heads of a layer, as they lie in qkv: queries, keys, values. */
export interface HeadShape {
  heads: number;
  keyValueHeads: number;
  headDim: number;
}

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

/**
 * Brings the dimensions of a head that rotate to where attention expects pairs, (i, i + headDim / 2). A score is a sum over
 * dimensions, so queries and keys in another order give the same.
 *
 * Neighbouring pairs are taken apart, into a with the first and b with the second of each. If only the first dimensions of a head
 * rotate, `[a, b, c]` with a and b the two halves of what rotates becomes `[a, c₁, b, c₂]`; the pairs of c turn by no angle.
 */
export class RotaryOrder implements QueryKeyStep {
  readonly #shape: HeadShape;
  readonly #interleaved: boolean;
  /** Sizes of a and b. */
  readonly #halfRotated: number;
  /** Sizes of c₁ and c₂. */
  readonly #halfKept: number;

  /** @param order `rotated`: dimensions of a head that rotate, even; `interleaved`: whether neighbours are pairs */
  constructor(shape: HeadShape, { rotated, interleaved }: { rotated: number; interleaved: boolean }) {
    this.#shape = shape;
    this.#interleaved = interleaved;
    this.#halfRotated = rotated / 2;
    this.#halfKept = (shape.headDim - rotated) / 2;
  }

  forward(qkv: Tensor): { output: Tensor; saved: null } {
    const half = this.#halfRotated;
    const kept = this.#halfKept;
    const output = this.#ofEachHead(qkv, (heads) => {
      const [rotated, ...others] = split(heads, [2 * half, kept, kept], 1);
      const [a, b] = split(this.#interleaved ? swapped(rotated!, [half, 2]) : rotated!, [half, half], 1);
      return concat([a!, others[0]!, b!, others[1]!], 1);
    });
    return { output, saved: null };
  }

  backward(gradient: Tensor): Tensor {
    const half = this.#halfRotated;
    const kept = this.#halfKept;
    return this.#ofEachHead(gradient, (heads) => {
      const [a, first, b, second] = split(heads, [half, kept, half, kept], 1);
      const rotated = concat([a!, b!], 1);
      return concat([this.#interleaved ? swapped(rotated, [2, half]) : rotated, first!, second!], 1);
    });
  }

  /** @param reorder of `[tokens × (heads + keyValueHeads), headDim]`: each query and key */
  #ofEachHead(qkv: Tensor, reorder: (heads: Tensor) => Tensor): Tensor {
    const { heads, keyValueHeads, headDim } = this.#shape;
    return scope(() => {
      const tokens = qkv.shape[0]!;
      const [queryAndKey, value] = split(qkv, [(heads + keyValueHeads) * headDim, keyValueHeads * headDim], 1);
      const reordered = reorder(reshape(queryAndKey!, [-1, headDim])); // [tokens x (heads + kv), headDim]
      return concat([reshape(reordered, [tokens, -1]), alias(value!)], 1);
    });
  }
}

/** `[n, rows × columns]` → `[n, columns × rows]` */
export function swapped(x: Tensor, [rows, columns]: [rows: number, columns: number]): Tensor {
  return reshape(transpose(reshape(x, [-1, rows, columns]), [0, 2, 1]), [-1, rows * columns]);
}
