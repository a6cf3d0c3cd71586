import type { DropoutSeed, GroupAdapter, LinearGroup } from '@lorasmith/models';
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

/** An adapted layer of a group. */
export interface AdaptedRows {
  rank: number;
  /** The factor of B A: alpha / rank. */
  scale: number;
  outFeatures: number;
  /** Index of its first row in the group. */
  firstRow: number;
}

type SavedLora = {
  /** `[tokens, in]` the input of forward, before dropout; the backward pass applies dropout again */
  x: Tensor;
  /** `[tokens, Σ rank]` A dropout(x) */
  low: Tensor;
  dropoutSeed: DropoutSeed | null;
};

/**
 * Low-rank adaptation of the linear layers of a group (Hu et al. 2021, arXiv:2106.09685):
 * `y = W x + b + scale · B (A dropout(x))`, with frozen W and b and each layer's `scale = alpha / rank`.
 *
 * The matrices A are stacked in `[Σ rank, in]`, and the matrices B are on the diagonal of `[out, Σ rank]`. So two products
 * compute all the layers.
 */
export class LoraGroup implements GroupAdapter<SavedLora> {
  readonly trained = true;
  readonly #linear: LinearGroup['linear'];
  readonly #adapted: readonly AdaptedRows[];
  readonly #dropout: number;
  readonly #index: number;
  #a: Tensor | null = null; // [sum of rank, in], in the model's dtype
  #scaledB: Tensor | null = null; // [out, sum of rank], in the model's dtype
  #gradients: Tensor[] | null = null; // A's, then each B's, float32

  /** @param options `index` of the group: each index has its own dropout masks */
  constructor(group: LinearGroup, adapted: readonly AdaptedRows[], options: { dropout: number; index: number }) {
    this.#linear = group.linear;
    this.#adapted = adapted;
    this.#dropout = options.dropout;
    this.#index = options.index;
  }

  /**
   * @param a `[Σ rank, in]` float32
   * @param b for each adapted layer `[out, rank]` float32
   */
  setWeights(a: Tensor, b: readonly Tensor[]): void {
    dispose([this.#a, this.#scaledB]);
    const dtype = this.#linear.computeDtype;
    [this.#a, this.#scaledB] = keep(
      scope(() => {
        const scaled = b.map((one, i) => multiply(one, constant(this.#adapted[i]!.scale)));
        return [cast(alias(a), dtype), cast(this.#onDiagonal(scaled), dtype)] as const;
      }),
    );
  }

  forward(
    x: Tensor,
    base: () => Tensor,
    { record, dropoutSeed }: { record: boolean; dropoutSeed: DropoutSeed | null },
  ): { output: Tensor; saved: SavedLora | null } {
    const [a, scaledB] = this.#weights();
    const result = scope(() => {
      const frozen = base(); // [tokens, out]
      const mask = this.#dropoutMask(x, dropoutSeed);
      const input = mask === null ? x : multiply(x, mask);
      const low = matMul(input, a, { transposeB: true }); // [tokens, in] x [sum of rank, in]ᵀ -> [tokens, sum of rank]
      const output = addMatMul(frozen, low, scaledB, { transposeB: true }); // [tokens, out]
      return { output, saved: record ? { x, low, dropoutSeed } : null };
    });
    if (!record) dispose(x);
    return result;
  }

  backward(gradient: Tensor, base: () => Tensor, saved: SavedLora, wantInputGradient: boolean): Tensor | null {
    const [a, scaledB] = this.#weights();
    const { x, low, dropoutSeed } = saved;
    const byInput = scope(() => {
      const lowGradient = matMul(gradient, scaledB); // [tokens, out] x [out, sum of rank] -> [tokens, sum of rank]
      const mask = this.#dropoutMask(x, dropoutSeed);
      const aGradient = scope(() => {
        const input = mask === null ? x : multiply(x, mask);
        return matMul(lowGradient, input, { transposeA: true });
      });
      this.#accumulate(aGradient, matMul(gradient, low, { transposeA: true }));
      if (!wantInputGradient) return null;
      if (mask === null) return addMatMul(base(), lowGradient, a); // [tokens, in]
      const throughA = scope(() => multiply(matMul(lowGradient, a), mask)); // [tokens, in]
      dispose(mask);
      return add(base(), throughA);
    });
    dispose(saved);
    return byInput;
  }

  /**
   * The sum of the gradients of all backward passes since the last call, in float32.
   * @returns A's `[Σ rank, in]`, then each B's `[out, rank]`; the caller disposes them
   */
  takeGradients(): Tensor[] {
    if (this.#gradients === null) throw new Error('no backward pass reached this group');
    const taken = this.#gradients;
    this.#gradients = null;
    return taken;
  }

  /** Whether a backward pass has reached this group since the last {@link takeGradients}. */
  get isReached(): boolean {
    return this.#gradients !== null;
  }

  /** Gradients of zero, in the form of {@link takeGradients}. */
  zeroGradients(): Tensor[] {
    const totalRank = this.#adapted.reduce((sum, { rank }) => sum + rank, 0);
    const ofB = this.#adapted.map(({ outFeatures, rank }) => fill([outFeatures, rank], 0));
    return [fill([totalRank, this.#linear.inFeatures], 0), ...ofB];
  }

  dispose(): void {
    dispose([this.#a, this.#scaledB, this.#gradients]);
  }

  #weights(): [Tensor, Tensor] {
    if (this.#a === null || this.#scaledB === null) throw new Error('the group has no A and B yet');
    return [this.#a, this.#scaledB];
  }

  /** Accumulates the gradients of A `[Σ rank, in]` and of the diagonal blocks of scale · B `[out, Σ rank]`. */
  #accumulate(aGradient: Tensor, scaledBGradient: Tensor): void {
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
    const totalRows = this.#linear.outFeatures;
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

  /** The inverse of {@link #onDiagonal}. Numbers off the diagonal are not parameters. */
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
   * The mask of inverted dropout (Srivastava et al. 2014); the same seed gives the same mask.
   * @returns shape and dtype of x, with values 0 and 1 / (1 - dropout); null without dropout
   */
  #dropoutMask({ shape, dtype }: Tensor, seed: DropoutSeed | null): Tensor | null {
    if (this.#dropout === 0 || seed === null) return null;
    const own = [(seed[0] ^ Math.imul(this.#index + 1, 0x9e3779b1)) & 0x7fffffff, seed[1] & 0x7fffffff] as const;
    return scope(() => {
      const kept = greaterEqual(randomUniform(shape, own), constant(this.#dropout));
      return multiply(cast(kept, dtype), constant(1 / (1 - this.#dropout), dtype));
    });
  }
}
