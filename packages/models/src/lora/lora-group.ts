import {
  type AdaptedRows,
  add,
  dispose,
  fill,
  keep,
  type LoraLayout,
  type LoraPart,
  type LoraWeights,
  parametersOf,
  type RowRange,
  scope,
  type Tensor,
  toFloat32Array,
} from '@lorasmith/tensor';
import type { LinearGroup } from '../frozen-linear.js';
import type { DropoutSeed, GroupAdapter, LowRankAdapter } from '../pass.js';

type SavedLora = {
  /** `[tokens, in]` the input of forward, before dropout; the backward pass applies dropout again */
  x: Tensor;
  /** The low-rank product `A dropout(x)`, kept for the backward pass. */
  low: Tensor[];
  dropoutSeed: DropoutSeed | null;
};

/**
 * Low-rank adaptation of the linear layers of a group (Hu et al. 2021, arXiv:2106.09685):
 * `y = W x + b + scale · B (A dropout(x))`, with frozen W and b and each layer's `scale = alpha / rank`.
 */
export class LoraGroup implements GroupAdapter<SavedLora>, LowRankAdapter {
  readonly trained = true;
  readonly lowRank = this;
  readonly #linear: LinearGroup['linear'];
  readonly #layout: LoraLayout;
  readonly #dropout: number;
  readonly #index: number;
  #parameters: Tensor | null = null; // [all] float32, the adapter's
  #weights: LoraWeights | null = null;
  #gradient: Tensor | null = null; // [parameterCount] float32

  /**
   * @param options `index` of the group: each index has its own dropout masks. `offset` of the group's parameters in the
   * vector of all
   */
  constructor(
    group: LinearGroup,
    adapted: readonly AdaptedRows[],
    options: { dropout: number; index: number; offset: number },
  ) {
    const { inFeatures, outFeatures } = group.linear;
    this.#linear = group.linear;
    this.#layout = { offset: options.offset, inFeatures, outFeatures, adapted };
    this.#dropout = options.dropout;
    this.#index = options.index;
  }

  /** The number of the group's parameters: A `[Σ rank, in]`, then each layer's B `[out, rank]`. */
  get parameterCount(): number {
    return parametersOf(this.#layout);
  }

  /** @param parameters `[all]` float32, of all groups; they stay the caller's, and live until others are set */
  setWeights(parameters: Tensor): void {
    dispose(this.#weights);
    this.#weights = null;
    this.#parameters = parameters;
  }

  /** True if both compute with the same matrices, bit for bit. */
  hasWeightsOf(other: LoraGroup): boolean {
    return scope(() => {
      const [own, others] = [this.#makeWeights(), other.#makeWeights()];
      return isSame(own.a, others.a) && isSame(own.scaledB, others.scaledB);
    });
  }

  partOn(rows: RowRange, dropoutSeed: DropoutSeed | null): LoraPart {
    const seed = this.#seedOf(dropoutSeed);
    return {
      rows,
      parameters: this.#currentParameters(),
      layout: this.#layout,
      weights: () => (this.#weights ??= keep(this.#makeWeights())),
      dropout: seed === null ? null : { rate: this.#dropout, seed },
    };
  }

  addGradient(gradient: Tensor): void {
    const before = this.#gradient;
    this.#gradient = keep(before === null ? gradient : scope(() => add(before, gradient)));
    if (before !== null) dispose([before, gradient]);
  }

  forward(
    x: Tensor,
    base: () => Tensor,
    { record, dropoutSeed }: { record: boolean; dropoutSeed: DropoutSeed | null },
  ): { output: Tensor; saved: SavedLora | null } {
    const part = this.#partOnAll(x, dropoutSeed);
    const result = scope(() => {
      const { output, low } = this.#linear.kernels.of(x.dtype).loraForward(base(), x, [part]);
      return { output, saved: record ? { x, low, dropoutSeed } : null };
    });
    if (!record) dispose(x);
    return result;
  }

  backward(gradient: Tensor, base: () => Tensor, saved: SavedLora, wantInputGradient: boolean): Tensor | null {
    const { x, low, dropoutSeed } = saved;
    const part = this.#partOnAll(x, dropoutSeed);
    const result = scope(() => {
      const byFrozen = wantInputGradient ? base() : null;
      const { byInput, byParameters } = this.#linear.kernels
        .of(x.dtype)
        .loraBackward(gradient, x, low, byFrozen, [part]);
      this.addGradient(byParameters[0]!);
      return byInput;
    });
    dispose(saved);
    return result;
  }

  /**
   * The sum of the gradients of all backward passes since the last call.
   * @returns `[parameterCount]` float32; the caller disposes it
   */
  takeGradient(): Tensor {
    if (this.#gradient === null) throw new Error('no backward pass reached this group');
    const taken = this.#gradient;
    this.#gradient = null;
    return taken;
  }

  /** See LoraAdapter. */
  dropGradient(): void {
    dispose(this.#gradient);
    this.#gradient = null;
  }

  /** True if a backward pass has reached this group since the last {@link takeGradient}. */
  get isReached(): boolean {
    return this.#gradient !== null;
  }

  /** A gradient of zero, in the form of {@link takeGradient}. */
  zeroGradient(): Tensor {
    return fill([this.parameterCount], 0);
  }

  dispose(): void {
    dispose([this.#weights, this.#gradient]);
  }

  #partOnAll(x: Tensor, dropoutSeed: DropoutSeed | null): LoraPart {
    return this.partOn({ first: 0, count: x.shape[0]! }, dropoutSeed);
  }

  #currentParameters(): Tensor {
    if (this.#parameters === null) throw new Error('the group has no A and B yet');
    return this.#parameters;
  }

  #makeWeights(): LoraWeights {
    const dtype = this.#linear.computeDtype;
    return this.#linear.kernels.of(dtype).loraWeights(this.#currentParameters(), this.#layout, dtype);
  }

  /** The group's own seed; null without dropout. */
  #seedOf(seed: DropoutSeed | null): [number, number] | null {
    if (this.#dropout === 0 || seed === null) return null;
    return [(seed[0] ^ Math.imul(this.#index + 1, 0x9e3779b1)) & 0x7fffffff, seed[1] & 0x7fffffff];
  }
}

function isSame(one: Tensor, other: Tensor): boolean {
  const isAlike = one.dtype === other.dtype && one.shape.join() === other.shape.join();
  return isAlike && Buffer.compare(bytesOf(one), bytesOf(other)) === 0;
}

function bytesOf(x: Tensor): Uint8Array {
  const { buffer, byteOffset, byteLength } = toFloat32Array(x);
  return new Uint8Array(buffer, byteOffset, byteLength);
}
