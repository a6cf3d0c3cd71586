import { dispose, type FloatDType, kernelsFor, type RowSections, type Tensor } from '@lorasmith/tensor';

/** `y = x Wᵀ` with a frozen W `[out, in]` of each expert. Rows are sorted by expert. */
export interface FrozenExperts {
  /** The type of x and y; how the weights are stored is the business of the experts alone. */
  readonly computeDtype: FloatDType;
  /**
   * @param x `[rows, in]`
   * @param sections the rows of each expert
   * @returns `[rows, out]`
   */
  forward(x: Tensor, sections: RowSections): Tensor;
  /**
   * @param gradient `[rows, out]` of the loss by y
   * @returns `[rows, in]` of the loss by x
   */
  backwardInput(gradient: Tensor, sections: RowSections): Tensor;
  /** Frees the weights. */
  dispose(): void;
}

/** Frozen experts whose weights are stored in the dtype that they compute in. */
export class DenseExperts implements FrozenExperts {
  readonly computeDtype: FloatDType;
  readonly #weights: Tensor;

  /** @param weights `[experts, out, in]`; taken over */
  constructor(weights: Tensor) {
    this.computeDtype = weights.dtype as FloatDType;
    this.#weights = weights;
  }

  forward(x: Tensor, sections: RowSections): Tensor {
    return kernelsFor(x.dtype).groupedProduct(x, this.#weights, sections, true);
  }

  backwardInput(gradient: Tensor, sections: RowSections): Tensor {
    return kernelsFor(gradient.dtype).groupedProduct(gradient, this.#weights, sections, false);
  }

  dispose(): void {
    dispose(this.#weights);
  }
}
