import { alias, concat, reshape, scope, split, type Tensor, transpose } from '@lorasmith/tensor';
import type { HeadShape, QueryKeyStep } from './query-key-step.js';

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
