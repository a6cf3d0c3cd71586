import { type LinearAttention, linearAttentionSizes } from '@lorasmith/model-folder';
import { concat, reshape, scope, split, type Tensor } from '@lorasmith/tensor';

/**
 * Order of the projections of linear attention that are fused by key head (Qwen3-Next): of each key head its query, its key, the
 * values and the gates of its value heads; then of each its β and its decays. Adapters have this order, as the files do.
 */
export class KeyHeadOrder {
  readonly #own: LinearAttention;

  constructor(own: LinearAttention) {
    this.#own = own;
  }

  /**
   * @param projected `[tokens, mixed + values + 2 × valueHeads]`, by key head
   * @returns the same numbers by kind: queries, keys, values, gates, β, decays
   */
  byKind(projected: Tensor): Tensor {
    return scope(() => {
      const halves = split(projected, this.#halves, 1);
      const parts = halves.flatMap((half, index) => {
        const widths = this.#widths[index]!;
        return split(reshape(half, [-1, sum(widths)]), widths, 1); // [tokens x key heads, width] each
      });
      return concat(
        parts.map((part) => reshape(part, [projected.shape[0]!, -1])),
        1,
      );
    });
  }

  /** Inverse of {@link byKind}, and so its gradient. */
  byKeyHead(parted: Tensor): Tensor {
    const heads = this.#own.keyHeadCount;
    return scope(() => {
      const widths = this.#widths.flat();
      const parts = split(
        parted,
        widths.map((width) => heads * width),
        1,
      ).map((part, index) => reshape(part, [-1, widths[index]!]));
      const count = this.#widths[0].length;
      const halves = [parts.slice(0, count), parts.slice(count)].map((half) => concat(half, 1));
      return concat(
        halves.map((half) => reshape(half, [parted.shape[0]!, -1])),
        1,
      );
    });
  }

  /** The numbers of a token in each of the two projections. */
  get #halves(): [mixedAndGate: number, betaAndDecay: number] {
    const { mixed, values } = linearAttentionSizes(this.#own);
    return [mixed + values, 2 * this.#own.valueHeadCount];
  }

  /** The numbers of each part that a key head has. */
  get #widths(): [mixedAndGate: number[], betaAndDecay: number[]] {
    const { keyHeadCount, keyHeadDim, valueHeadCount, valueHeadDim } = this.#own;
    const valueHeads = valueHeadCount / keyHeadCount;
    const values = valueHeads * valueHeadDim;
    return [
      [keyHeadDim, keyHeadDim, values, values],
      [valueHeads, valueHeads],
    ];
  }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
