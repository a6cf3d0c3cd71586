import type { FrozenProjection, Projection, Saved } from '@lorasmith/models';
import {
  add,
  addMatMul,
  alias,
  cast,
  concat,
  constant,
  dispose,
  fill,
  greaterEqual,
  keep,
  matMul,
  multiply,
  pad,
  randomUniform,
  scope,
  split,
  type Tensor,
} from '@lorasmith/tensor';

/** One adapted layer among those a projection stacks. */
export interface AdaptedRows {
  rank: number;
  /** What B A is multiplied with: alpha / rank. */
  scale: number;
  outFeatures: number;
  /** Where its rows begin in the stacked weight. */
  firstRow: number;
}

interface SavedLora {
  /** `[tokens, in]` as forward was given it; what dropout leaves of it is made again */
  x: Tensor;
  /** `[tokens, Σ rank]` A dropout(x) */
  low: Tensor;
  dropoutSeed: readonly [number, number];
}

/**
 * Low-rank adaptation of stacked linear layers (Hu et al. 2021, arXiv:2106.09685):
 * `y = W x + b + scale · B (A dropout(x))`, W and b frozen, `scale = alpha / rank` of each layer.
 * The layers' A lie one below the other in `[Σ rank, in]`, their B on the diagonal of `[out, Σ rank]`, so that the
 * adaptation of all of them is two products.
 */
export class LoraProjection implements Projection {
  readonly trained = true;
  readonly #frozen: FrozenProjection;
  readonly #adapted: readonly AdaptedRows[];
  readonly #dropout: number;
  #a: Tensor | null = null; // [sum of rank, in], in the model's dtype
  #scaledB: Tensor | null = null; // [out, sum of rank], in the model's dtype
  #gradients: Tensor[] | null = null; // A's, then each B's, float32
  /** Seeds the dropout of the next forward pass: two integers below 2^31, different in every pass. */
  dropoutSeed: readonly [number, number] = [0, 0];

  constructor(frozen: FrozenProjection, adapted: readonly AdaptedRows[], options: { dropout: number }) {
    this.#frozen = frozen;
    this.#adapted = adapted;
    this.#dropout = options.dropout;
  }

  /**
   * @param a `[Σ rank, in]` float32
   * @param b for each adapted layer `[out, rank]` float32
   */
  setWeights(a: Tensor, b: readonly Tensor[]): void {
    dispose([this.#a, this.#scaledB]);
    const dtype = this.#frozen.weight.dtype;
    [this.#a, this.#scaledB] = keep(
      scope(() => {
        const scaled = b.map((one, i) => multiply(one, constant(this.#adapted[i]!.scale)));
        return [cast(alias(a), dtype), cast(this.#onDiagonal(scaled), dtype)] as const;
      }),
    );
  }

  forward(x: Tensor, record: boolean): { output: Tensor; saved: Saved } {
    const [a, scaledB] = this.#weights();
    return scope(() => {
      const base = this.#frozen.forward(x).output; // [tokens, out]
      const { dropoutSeed } = this;
      const mask = record ? this.#dropoutMask(x, dropoutSeed) : null;
      const input = mask === null ? x : multiply(x, mask);
      const low = matMul(input, a, { transposeB: true }); // [tokens, in] x [sum of rank, in]ᵀ -> [tokens, sum of rank]
      const output = addMatMul(base, low, scaledB, { transposeB: true }); // [tokens, out]
      return { output, saved: record ? ({ x, low, dropoutSeed } satisfies SavedLora) : null };
    });
  }

  backward(gradient: Tensor, saved: Saved, wantInputGradient: boolean): Tensor | null {
    const [a, scaledB] = this.#weights();
    const { x, low, dropoutSeed } = saved as SavedLora;
    return scope(() => {
      const lowGradient = matMul(gradient, scaledB); // [tokens, out] x [out, sum of rank] -> [tokens, sum of rank]
      const mask = this.#dropoutMask(x, dropoutSeed);
      const aGradient = scope(() => {
        const input = mask === null ? x : multiply(x, mask);
        return matMul(lowGradient, input, { transposeA: true });
      });
      this.#take(aGradient, matMul(gradient, low, { transposeA: true }));
      if (!wantInputGradient) return null;
      if (mask === null) return addMatMul(this.#frozen.backward(gradient, null, true)!, lowGradient, a); // [tokens, in]
      const throughA = scope(() => multiply(matMul(lowGradient, a), mask)); // [tokens, in]
      dispose(mask);
      return add(this.#frozen.backward(gradient, null, true)!, throughA);
    });
  }

  /**
   * The gradients of all backward passes since the last call, summed, float32.
   * @returns A's `[Σ rank, in]`, then each B's `[out, rank]`; the caller's to free
   */
  takeGradients(): Tensor[] {
    if (this.#gradients === null) throw new Error('no backward pass reached this projection');
    const taken = this.#gradients;
    this.#gradients = null;
    return taken;
  }

  dispose(): void {
    dispose([this.#a, this.#scaledB, this.#gradients]);
  }

  #weights(): [Tensor, Tensor] {
    if (this.#a === null || this.#scaledB === null) throw new Error('the projection has no A and B yet');
    return [this.#a, this.#scaledB];
  }

  /** Adds up the gradients of A `[Σ rank, in]` and of the diagonal blocks of scale · B `[out, Σ rank]`. */
  #take(aGradient: Tensor, scaledBGradient: Tensor): void {
    const fresh = scope(() => {
      const blocks = this.#diagonalOf(cast(scaledBGradient, 'float32'));
      const ofB = blocks.map((block, i) => multiply(block, constant(this.#adapted[i]!.scale)));
      return [cast(aGradient, 'float32'), ...ofB];
    });
    const before = this.#gradients;
    this.#gradients = keep(
      before === null ? fresh : scope(() => fresh.map((gradient, i) => add(before[i]!, gradient))),
    );
    if (before !== null) dispose([before, fresh]);
  }

  /** `[out, rank]` of each layer → `[out of all, Σ rank]`, zero off the diagonal. */
  #onDiagonal(b: readonly Tensor[]): Tensor {
    const totalRank = this.#adapted.reduce((sum, { rank }) => sum + rank, 0);
    const totalRows = this.#frozen.weight.shape[0]!;
    const bands: Tensor[] = [];
    let row = 0;
    let column = 0;
    for (const [i, { rank, outFeatures, firstRow }] of this.#adapted.entries()) {
      if (firstRow > row) bands.push(fill([firstRow - row, totalRank], 0));
      bands.push(
        pad(b[i]!, [
          [0, 0],
          [column, totalRank - column - rank],
        ]),
      );
      row = firstRow + outFeatures;
      column += rank;
    }
    if (totalRows > row) bands.push(fill([totalRows - row, totalRank], 0));
    return concat(bands, 0);
  }

  /** The opposite of {@link #onDiagonal}: what lies off the diagonal is no parameter. */
  #diagonalOf(stacked: Tensor): Tensor[] {
    const totalRows = stacked.shape[0]!;
    const ranks = this.#adapted.map(({ rank }) => rank);
    const heights: number[] = [];
    const bandOf: number[] = [];
    let row = 0;
    for (const { outFeatures, firstRow } of this.#adapted) {
      if (firstRow > row) heights.push(firstRow - row);
      bandOf.push(heights.length);
      heights.push(outFeatures);
      row = firstRow + outFeatures;
    }
    if (totalRows > row) heights.push(totalRows - row);
    const bands = split(stacked, heights, 0);
    return ranks.map((_, i) => split(bands[bandOf[i]!]!, ranks, 1)[i]!);
  }

  /**
   * Inverted dropout (Srivastava et al. 2014), the same for the same seed.
   * @returns like x, of 0 and 1 / (1 - dropout); null without dropout
   */
  #dropoutMask({ shape, dtype }: Tensor, seed: readonly [number, number]): Tensor | null {
    if (this.#dropout === 0) return null;
    return scope(() => {
      const kept = greaterEqual(randomUniform(shape, seed), constant(this.#dropout));
      return multiply(cast(kept, dtype), constant(1 / (1 - this.#dropout), dtype));
    });
  }
}
