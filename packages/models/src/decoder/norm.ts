import type { NormSettings } from '@lorasmith/model-folder';
import {
  add,
  alias,
  cast,
  dispose,
  type FloatDType,
  type KernelSet,
  type Normed,
  type StreamGradient,
  scope,
  type Tensor,
} from '@lorasmith/tensor';

/**
 * A frozen norm of a decoder: root mean square norm, or layer norm (Ba et al. 2016, arXiv:1607.06450), which is the
 * root mean square norm of what is left of x when its mean is taken off, and a bias.
 */
export class Norm {
  readonly #kernels: KernelSet;
  readonly #epsilon: number;
  readonly #kind: NormSettings['kind'];
  /** `[size]` float32, the offset of the settings in it */
  readonly weight: Tensor;
  /** `[size]` float32; null for a root mean square norm */
  readonly bias: Tensor | null;

  constructor(kernels: KernelSet, { kind, epsilon }: NormSettings, weight: Tensor, bias: Tensor | null) {
    this.#kernels = kernels;
    this.#kind = kind;
    this.#epsilon = epsilon;
    this.weight = weight;
    this.bias = bias;
  }

  /**
   * @param x `[tokens, size]` float32
   * @param dtype of the output
   */
  forward(x: Tensor, dtype: FloatDType): Normed {
    if (this.#kind === 'rms') return this.#kernels.of(dtype).rmsNorm(x, this.weight, this.#epsilon, dtype);
    return scope(() => {
      const { centred, rmsNorm } = this.#kernels.of('float32');
      const { output, inverseRms } = rmsNorm(centred(x), this.weight, this.#epsilon, 'float32');
      return { output: cast(this.bias === null ? alias(output) : add(output, this.bias), dtype), inverseRms };
    });
  }

  /**
   * {@link forward} of `x + branch`.
   * @param branch `[tokens, size]` in the model's dtype
   * @returns also the sum, float32
   */
  addForward(x: Tensor, branch: Tensor): Normed & { sum: Tensor } {
    if (this.#kind === 'rms') return this.#kernels.of(branch.dtype).addRmsNorm(x, branch, this.weight, this.#epsilon);
    return scope(() => {
      const sum = add(x, cast(branch, 'float32'));
      return { sum, ...this.forward(sum, branch.dtype as FloatDType) };
    });
  }

  /**
   * Gradient by x, added to that of the branch past the norm.
   * @param gradient `[tokens, size]` by the output
   * @param residual `[tokens, size]` float32; null for none
   */
  gradient(gradient: Tensor, x: Tensor, inverseRms: Tensor, residual: Tensor | null): StreamGradient {
    const { rmsNormGradient } = this.#kernels.of(gradient.dtype);
    if (this.#kind === 'rms') return rmsNormGradient(gradient, x, this.weight, inverseRms, residual);
    return scope(() => {
      const { centred } = this.#kernels.of('float32');
      const byCentred = rmsNormGradient(gradient, centred(x), this.weight, inverseRms, null);
      dispose(byCentred.rounded);
      const own = centred(byCentred.exact);
      const exact = residual === null ? own : add(residual, own);
      return { exact, rounded: cast(alias(exact), gradient.dtype) };
    });
  }

  /** Frees the weights. */
  dispose(): void {
    dispose([this.weight, this.bias]);
  }
}
