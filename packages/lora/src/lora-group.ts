import type { DropoutSeed, GroupAdapter, LinearGroup } from '@lorasmith/models';
import {
  type AdaptedRows,
  add,
  addMatMul,
  dispose,
  fill,
  keep,
  kernelsFor,
  type LoraLayout,
  type LoraWeights,
  matMul,
  parametersOf,
  scope,
  type Tensor,
  toFloat32Array,
} from '@lorasmith/tensor';

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
  readonly #layout: LoraLayout;
  readonly #dropout: number;
  readonly #index: number;
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

  /** How many parameters the group has: A `[Σ rank, in]`, then each layer's B `[out, rank]`. */
  get parameterCount(): number {
    return parametersOf(this.#layout);
  }

  /** @param parameters `[all]` float32, of all groups */
  setWeights(parameters: Tensor): void {
    const dtype = this.#linear.computeDtype;
    const weights = kernelsFor(dtype).loraWeights(parameters, this.#layout, dtype);
    dispose(this.#weights);
    this.#weights = keep(weights);
  }

  /** Whether both compute with the same matrices, bit for bit. */
  hasWeightsOf(other: LoraGroup): boolean {
    const [own, others] = [this.#currentWeights(), other.#currentWeights()];
    return isSame(own.a, others.a) && isSame(own.scaledB, others.scaledB);
  }

  forward(
    x: Tensor,
    base: () => Tensor,
    { record, dropoutSeed }: { record: boolean; dropoutSeed: DropoutSeed | null },
  ): { output: Tensor; saved: SavedLora | null } {
    const { a, scaledB } = this.#currentWeights();
    const result = scope(() => {
      const frozen = base(); // [tokens, out]
      const input = this.#dropped(x, dropoutSeed);
      const low = matMul(input, a, { transposeB: true }); // [tokens, in] x [sum of rank, in]ᵀ -> [tokens, sum of rank]
      const output = addMatMul(frozen, low, scaledB, { transposeB: true }); // [tokens, out]
      return { output, saved: record ? { x, low, dropoutSeed } : null };
    });
    if (!record) dispose(x);
    return result;
  }

  backward(gradient: Tensor, base: () => Tensor, saved: SavedLora, wantInputGradient: boolean): Tensor | null {
    const { a, scaledB } = this.#currentWeights();
    const { x, low, dropoutSeed } = saved;
    const byInput = scope(() => {
      const lowGradient = matMul(gradient, scaledB); // [tokens, out] x [out, sum of rank] -> [tokens, sum of rank]
      const aGradient = scope(() => matMul(lowGradient, this.#dropped(x, dropoutSeed), { transposeA: true }));
      this.#accumulate(aGradient, matMul(gradient, low, { transposeA: true }));
      if (!wantInputGradient) return null;
      if (this.#seedOf(dropoutSeed) === null) return addMatMul(base(), lowGradient, a); // [tokens, in]
      const throughA = scope(() => this.#dropped(matMul(lowGradient, a), dropoutSeed)); // [tokens, in]
      return add(base(), throughA);
    });
    dispose(saved);
    return byInput;
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

  /** Whether a backward pass has reached this group since the last {@link takeGradient}. */
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

  #currentWeights(): LoraWeights {
    if (this.#weights === null) throw new Error('the group has no A and B yet');
    return this.#weights;
  }

  /** @param byA `[Σ rank, in]` @param byScaledB `[out, Σ rank]` */
  #accumulate(byA: Tensor, byScaledB: Tensor): void {
    const fresh = kernelsFor(byA.dtype).loraGradient(byA, byScaledB, this.#layout);
    const before = this.#gradient;
    this.#gradient = keep(before === null ? fresh : scope(() => add(before, fresh)));
    if (before !== null) dispose([before, fresh]);
  }

  /** x where dropout leaves it, the same numbers for the same seed; x itself without dropout. Its own gradient. */
  #dropped(x: Tensor, dropoutSeed: DropoutSeed | null): Tensor {
    const seed = this.#seedOf(dropoutSeed);
    return seed === null ? x : kernelsFor(x.dtype).dropout(x, this.#dropout, seed);
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
