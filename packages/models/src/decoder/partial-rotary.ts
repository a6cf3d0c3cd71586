import { alias, concat, reshape, scope, split, type Tensor } from '@lorasmith/tensor';
import type { HeadShape, QueryKeyStep } from './query-key-step.js';

/**
 * Brings the dimensions of a head that rotate to where attention expects pairs, (i, i + headDim / 2), when only the first
 * of them rotate: `[a, b, c]` with a and b the two halves of what rotates becomes `[a, c₁, b, c₂]`. A score is a sum over
 * dimensions, so queries and keys in another order give the same; the pairs of c turn by no angle.
 */
export class PartialRotary implements QueryKeyStep {
  readonly #shape: HeadShape;
  /** Sizes of a, b, c₁ and c₂. */
  readonly #halfRotated: number;
  readonly #halfKept: number;

  /** @param rotated dimensions of a head that rotate; even */
  constructor(shape: HeadShape, rotated: number) {
    this.#shape = shape;
    this.#halfRotated = rotated / 2;
    this.#halfKept = (shape.headDim - rotated) / 2;
  }

  forward(qkv: Tensor): { output: Tensor; saved: null } {
    const sizes = [this.#halfRotated, this.#halfRotated, this.#halfKept, this.#halfKept];
    return { output: this.#reorder(qkv, sizes), saved: null };
  }

  backward(gradient: Tensor): Tensor {
    return this.#reorder(gradient, [this.#halfRotated, this.#halfKept, this.#halfRotated, this.#halfKept]);
  }

  /** Swaps the second and the third of each query's and key's four pieces. */
  #reorder(qkv: Tensor, sizes: number[]): Tensor {
    const { heads, keyValueHeads, headDim } = this.#shape;
    return scope(() => {
      const tokens = qkv.shape[0]!;
      const [queryAndKey, value] = split(qkv, [(heads + keyValueHeads) * headDim, keyValueHeads * headDim], 1);
      const [first, second, third, fourth] = split(reshape(queryAndKey!, [-1, headDim]), sizes, 1);
      const reordered = concat([first!, third!, second!, fourth!], 1); // [tokens x (heads + kv), headDim]
      return concat([reshape(reordered, [tokens, -1]), alias(value!)], 1);
    });
  }
}
