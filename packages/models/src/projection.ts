import { add, matMul, type Tensor } from '@lorasmith/tensor';

/**
 * What a forward pass keeps for its backward pass. Only the projection that made it looks inside. It holds x, or it is null:
 * that tells the caller whether x is still needed, and x is freed with it.
 */
export type Saved = unknown;

/** One or more linear layers with the same input, computed as one: `y = x Wᵀ + b` with their rows of W stacked. */
export interface Projection {
  /** Whether backward has something to learn here. */
  readonly trained: boolean;
  /**
   * @param x `[tokens, in]` in the model's dtype
   * @param record whether backward will follow; without it nothing is saved
   * @returns output `[tokens, out]` and what backward needs, as live tensors
   */
  forward(x: Tensor, record: boolean): { output: Tensor; saved: Saved };
  /**
   * @param gradient `[tokens, out]` of the loss by the output
   * @returns `[tokens, in]` of the loss by the input; null when it is not wanted
   */
  backward(gradient: Tensor, saved: Saved, wantInputGradient: boolean): Tensor | null;
}

/** Stacked linear layers with frozen weights: no gradient for W or b is ever formed. */
export class FrozenProjection implements Projection {
  readonly trained = false;
  /** `[out, in]` */
  readonly weight: Tensor;
  /** `[out]` */
  readonly bias: Tensor | null;

  constructor(weight: Tensor, bias: Tensor | null) {
    this.weight = weight;
    this.bias = bias;
  }

  forward(x: Tensor): { output: Tensor; saved: Saved } {
    const product = matMul(x, this.weight, { transposeB: true }); // [tokens, in] x [out, in]ᵀ -> [tokens, out]
    if (this.bias === null) return { output: product, saved: null };
    const output = add(product, this.bias);
    product.dispose();
    return { output, saved: null };
  }

  backward(gradient: Tensor, _saved: Saved, wantInputGradient: boolean): Tensor | null {
    return wantInputGradient ? matMul(gradient, this.weight) : null; // [tokens, out] x [out, in] -> [tokens, in]
  }
}

/** A place in a model where linear layers sit, and what computes them now. */
export class ProjectionSlot {
  /** In the order in which their rows are stacked. */
  readonly modules: readonly { name: string; outFeatures: number }[];
  readonly inFeatures: number;
  readonly frozen: FrozenProjection;
  projection: Projection;

  constructor(modules: readonly { name: string; outFeatures: number }[], inFeatures: number, frozen: FrozenProjection) {
    this.modules = modules;
    this.inFeatures = inFeatures;
    this.frozen = frozen;
    this.projection = frozen;
  }
}
