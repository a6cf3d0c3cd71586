import { dispose, type FloatDType, type KernelSet, type PackedMatrix, slice, type Tensor } from '@lorasmith/tensor';
import { type AdaptedLinear, type FrozenLinear, plusBias } from './frozen-linear.js';

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
    if (!kernels.decodedHaveMargins(computeDtype)) return;
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
