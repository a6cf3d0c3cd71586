import {
  dispose,
  type FloatDType,
  type KernelSet,
  type PackedRows,
  type RowSections,
  reshape,
  scope,
  slice,
  type Tensor,
  transpose,
} from '@lorasmith/tensor';
import type { FrozenLinear, LinearGroup } from './frozen-linear.js';

/** `y = x Wᵀ` with a frozen W `[out, in]` of each expert. Rows are sorted by expert. */
export interface FrozenExperts {
  /** The type of x and y; how the weights are stored is the business of the experts alone. */
  readonly computeDtype: FloatDType;
  /** The kernels that they compute with. */
  readonly kernels: KernelSet;
  readonly count: number;
  readonly inFeatures: number;
  readonly outFeatures: number;
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
  /** Rows of an expert's W as they are computed with, `[count, in]`. The caller frees them. */
  weightRows(expert: number, first: number, count: number): Tensor;
  /** Frees the weights. */
  dispose(): void;
}

/** Frozen experts whose weights are stored in the dtype that they compute in. */
export class DenseExperts implements FrozenExperts {
  readonly kernels: KernelSet;
  readonly computeDtype: FloatDType;
  readonly count: number;
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly #weights: Tensor;
  readonly #transposed: boolean;

  /** @param weights `[experts, out, in]`, or `[experts, in, out]` where they are transposed; taken over */
  constructor(kernels: KernelSet, weights: Tensor, { transposed = false }: { transposed?: boolean | undefined } = {}) {
    this.kernels = kernels;
    this.computeDtype = weights.dtype as FloatDType;
    const [count, rows, columns] = weights.shape as [number, number, number];
    this.count = count;
    [this.outFeatures, this.inFeatures] = transposed ? [columns, rows] : [rows, columns];
    this.#weights = weights;
    this.#transposed = transposed;
  }

  forward(x: Tensor, sections: RowSections): Tensor {
    return this.kernels.of(x.dtype).groupedProduct(x, this.#weights, sections, !this.#transposed);
  }

  backwardInput(gradient: Tensor, sections: RowSections): Tensor {
    return this.kernels.of(gradient.dtype).groupedProduct(gradient, this.#weights, sections, this.#transposed);
  }

  weightRows(expert: number, first: number, count: number): Tensor {
    const { inFeatures } = this;
    return scope(() => {
      if (!this.#transposed)
        return reshape(slice(this.#weights, [expert, first, 0], [1, count, -1]), [count, inFeatures]);
      const columns = slice(this.#weights, [expert, 0, first], [1, -1, count]);
      return transpose(reshape(columns, [inFeatures, count]), [1, 0]);
    });
  }

  dispose(): void {
    dispose(this.#weights);
  }
}

/** Frozen experts whose weights stay in 4 or 8 bits: each product decodes them. */
export class PackedExperts implements FrozenExperts {
  readonly kernels: KernelSet;
  readonly computeDtype: FloatDType;
  readonly count: number;
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly #weights: PackedRows;
  readonly #transposed: boolean;

  /**
   * @param weights of all experts, one below the other, each `[out, in]`, or `[in, out]` where they are transposed; taken over
   * @param count of experts
   */
  constructor(
    kernels: KernelSet,
    weights: PackedRows,
    count: number,
    { computeDtype, transposed = false }: { computeDtype: FloatDType; transposed?: boolean | undefined },
  ) {
    this.kernels = kernels;
    this.computeDtype = computeDtype;
    this.count = count;
    const [rows, columns] = [weights.rows / count, weights.columns];
    [this.outFeatures, this.inFeatures] = transposed ? [columns, rows] : [rows, columns];
    this.#weights = weights;
    this.#transposed = transposed;
  }

  forward(x: Tensor, sections: RowSections): Tensor {
    return this.kernels.of(x.dtype).groupedPackedProduct(x, this.#weights, sections, !this.#transposed);
  }

  backwardInput(gradient: Tensor, sections: RowSections): Tensor {
    return this.kernels.of(gradient.dtype).groupedPackedProduct(gradient, this.#weights, sections, this.#transposed);
  }

  weightRows(expert: number, first: number, count: number): Tensor {
    const { inFeatures, outFeatures, computeDtype } = this;
    const { dequantizeRows } = this.kernels.of(computeDtype);
    if (!this.#transposed) return dequantizeRows(this.#weights, expert * outFeatures + first, count, computeDtype);
    return scope(() => {
      const own = dequantizeRows(this.#weights, expert * inFeatures, inFeatures, computeDtype);
      return transpose(slice(own, [0, first], [-1, count]), [1, 0]);
    });
  }

  dispose(): void {
    this.#weights.dispose();
  }
}

/** Experts that adapters act at: each is a group of its own, of one layer with the name of the parameter. */
export interface ExpertGroups {
  readonly experts: FrozenExperts;
  readonly groups: readonly LinearGroup[];
}

/** @param name of the parameter in PEFT, for instance `model.layers.0.mlp.experts.down_proj` */
export function expertGroups(name: string, experts: FrozenExperts): ExpertGroups {
  const { count, outFeatures } = experts;
  const groups = Array.from({ length: count }, (_, index): LinearGroup => {
    return { modules: [{ name, outFeatures, expert: { index, count } }], linear: new OneExpert(experts, index) };
  });
  return { experts, groups };
}

/** One of several experts as a linear layer. It does not own the weights. */
class OneExpert implements FrozenLinear {
  readonly kernels: KernelSet;
  readonly computeDtype: FloatDType;
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly #experts: FrozenExperts;
  readonly #expert: number;

  constructor(experts: FrozenExperts, expert: number) {
    this.kernels = experts.kernels;
    this.computeDtype = experts.computeDtype;
    this.inFeatures = experts.inFeatures;
    this.outFeatures = experts.outFeatures;
    this.#experts = experts;
    this.#expert = expert;
  }

  forward(x: Tensor): Tensor {
    return this.#multiplied(x, true);
  }

  backwardInput(gradient: Tensor): Tensor {
    return this.#multiplied(gradient, false);
  }

  #multiplied(x: Tensor, transposeB: boolean): Tensor {
    const weight = this.weightRows(0, this.outFeatures);
    const product = this.kernels.matMul(x, weight, { transposeB });
    weight.dispose();
    return product;
  }

  weightRows(first: number, count: number): Tensor {
    return this.#experts.weightRows(this.#expert, first, count);
  }

  biasRows(): null {
    return null;
  }

  dispose(): void {
    this.#experts.dispose();
  }
}
