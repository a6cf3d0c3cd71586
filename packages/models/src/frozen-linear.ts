import {
  add,
  dispose,
  type FloatDType,
  type KernelSet,
  type LoraGradients,
  type LoraOutput,
  type LoraPart,
  type PackedMatrix,
  type PaddedWeight,
  rowsWithoutPadding,
  slice,
  type Tensor,
} from '@lorasmith/tensor';

/** `y = x Wᵀ + b` with frozen W `[out, in]` and b `[out]`: no gradient for them is ever formed. */
export interface FrozenLinear {
  /** The type of x and y; how the weights are stored is the layer's own business. */
  readonly computeDtype: FloatDType;
  /** The kernels that it computes with. */
  readonly kernels: KernelSet;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /**
   * @param x `[tokens, in]`
   * @returns `[tokens, out]`
   */
  forward(x: Tensor): Tensor;
  /**
   * @param gradient `[tokens, out]` of the loss by y
   * @returns `[tokens, in]` of the loss by x
   */
  backwardInput(gradient: Tensor): Tensor;
  /** Products with one adapter on all rows, in fewer passes over memory than by itself. @defaultValue the layer has none */
  readonly adapted?: AdaptedLinear;
  /** Rows of W as they are computed with, `[count, in]` in {@link computeDtype}. The caller frees them. */
  weightRows(first: number, count: number): Tensor;
  /** The same rows of b, `[count]`; null without a bias. */
  biasRows(first: number, count: number): Tensor | null;
  /** Frees the weights. */
  dispose(): void;
}

/** A frozen linear layer with the adapter of `part`, see isAdaptedAlone of packages/tensor. */
export interface AdaptedLinear {
  /** @param x `[tokens, in]` */
  forward(x: Tensor, part: LoraPart): LoraOutput;
  /**
   * @param gradient `[tokens, out]`
   * @param x `[tokens, in]`
   * @param wanted whether the gradient by x is wanted
   */
  backward(gradient: Tensor, x: Tensor, low: readonly Tensor[], part: LoraPart, wanted: boolean): LoraGradients;
}

/** A frozen linear layer whose weights are stored in the dtype that it computes in. */
export class DenseLinear implements FrozenLinear {
  readonly kernels: KernelSet;
  readonly computeDtype: FloatDType;
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly #weight: Tensor;
  readonly #bias: Tensor | null;

  /**
   * Takes both over.
   * @param weight `[out, in]`
   * @param bias `[out]`
   */
  constructor(kernels: KernelSet, weight: Tensor, bias: Tensor | null) {
    this.kernels = kernels;
    this.computeDtype = weight.dtype as FloatDType;
    [this.outFeatures, this.inFeatures] = weight.shape as [number, number];
    this.#weight = weight;
    this.#bias = bias;
  }

  forward(x: Tensor): Tensor {
    const product = this.kernels.matMul(x, this.#weight, { transposeB: true }); // [tokens, in] x [out, in]ᵀ -> [tokens, out]
    return plusBias(product, this.#bias);
  }

  backwardInput(gradient: Tensor): Tensor {
    return this.kernels.matMul(gradient, this.#weight); // [tokens, out] x [out, in] -> [tokens, in]
  }

  weightRows(first: number, count: number): Tensor {
    return slice(this.#weight, [first, 0], [count, -1]);
  }

  biasRows(first: number, count: number): Tensor | null {
    return this.#bias === null ? null : slice(this.#bias, [first], [count]);
  }

  dispose(): void {
    dispose([this.#weight, this.#bias]);
  }
}

/** A {@link DenseLinear} whose weights have rows or columns of padding. */
export class PaddedLinear implements FrozenLinear {
  readonly kernels: KernelSet;
  readonly computeDtype: FloatDType;
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly adapted: AdaptedLinear;
  readonly #weight: PaddedWeight;
  readonly #bias: Tensor | null;

  /**
   * Takes both over.
   * @param bias `[out]`
   */
  constructor(kernels: KernelSet, weight: PaddedWeight, bias: Tensor | null) {
    this.kernels = kernels;
    this.computeDtype = weight.tensor.dtype as FloatDType;
    ({ inFeatures: this.inFeatures, outFeatures: this.outFeatures } = weight);
    this.#weight = weight;
    this.#bias = bias;
    this.adapted = {
      forward: (x, part) => {
        const { output, low } = kernels.of(x.dtype).adaptedForward(x, weight, part);
        return { output: plusBias(output, bias), low };
      },
      backward: (gradient, x, low, part, wanted) =>
        kernels.of(x.dtype).adaptedBackward(gradient, x, low, weight, part, wanted),
    };
  }

  forward(x: Tensor): Tensor {
    return plusBias(this.kernels.of(x.dtype).paddedProduct(x, this.#weight, true), this.#bias);
  }

  backwardInput(gradient: Tensor): Tensor {
    return this.kernels.of(gradient.dtype).paddedProduct(gradient, this.#weight, false);
  }

  weightRows(first: number, count: number): Tensor {
    return rowsWithoutPadding(this.#weight, first, count);
  }

  biasRows(first: number, count: number): Tensor | null {
    return this.#bias === null ? null : slice(this.#bias, [first], [count]);
  }

  dispose(): void {
    dispose([this.#weight.tensor, this.#bias]);
  }
}

/** The output `[tokens, out]` of a layer with a bias `[out]`, or without one. Takes the product over. */
function plusBias(product: Tensor, bias: Tensor | null): Tensor {
  if (bias === null) return product;
  const output = add(product, bias);
  product.dispose();
  return output;
}

/** A layer of a group. */
export interface GroupModule {
  readonly name: string;
  readonly outFeatures: number;
  /**
   * Its place among the experts of a layer: the name is then that of the parameter with the weights of all of them. @defaultValue it is
   * a linear layer
   */
  readonly expert?: { readonly index: number; readonly count: number } | undefined;
}

/** Linear layers with the same input, computed as one product: their rows of W lie one below the other. */
export interface LinearGroup {
  /** The layers of the group, in the order of their rows. */
  readonly modules: readonly GroupModule[];
  readonly linear: FrozenLinear;
}

/** A frozen linear layer whose weights stay in 4 or 8 bits: each product decodes them. */
export class QuantizedLinear implements FrozenLinear {
  readonly kernels: KernelSet;
  readonly computeDtype: FloatDType;
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly adapted?: AdaptedLinear;
  readonly #weight: PackedMatrix;
  readonly #bias: Tensor | null;

  /**
   * Takes both over.
   * @param weight `[out, in]`
   * @param bias `[out]`, in the type that the layer computes in
   */
  constructor(kernels: KernelSet, weight: PackedMatrix, bias: Tensor | null, computeDtype: FloatDType) {
    this.kernels = kernels;
    this.computeDtype = computeDtype;
    this.outFeatures = weight.rows;
    this.inFeatures = weight.columns;
    this.#weight = weight;
    this.#bias = bias;
    if (!kernels.decodedArePadded(computeDtype)) return;
    this.adapted = {
      forward: (x, part) => {
        const { output, low } = kernels.of(x.dtype).adaptedPackedForward(x, weight, part);
        return { output: plusBias(output, bias), low };
      },
      backward: (gradient, x, low, part, wanted) =>
        kernels.of(x.dtype).adaptedPackedBackward(gradient, x, low, weight, part, wanted),
    };
  }

  forward(x: Tensor): Tensor {
    return plusBias(this.kernels.of(x.dtype).quantizedProduct(x, this.#weight, true), this.#bias);
  }

  backwardInput(gradient: Tensor): Tensor {
    return this.kernels.of(gradient.dtype).quantizedProduct(gradient, this.#weight, false);
  }

  weightRows(first: number, count: number): Tensor {
    return this.kernels.of(this.computeDtype).dequantizeRows(this.#weight, first, count, this.computeDtype);
  }

  biasRows(first: number, count: number): Tensor | null {
    return this.#bias === null ? null : slice(this.#bias, [first], [count]);
  }

  dispose(): void {
    this.#weight.dispose();
    dispose(this.#bias);
  }
}
