import {
  type AdamWStep,
  type AdamWUpdate,
  dispose,
  fill,
  type KernelSet,
  keep,
  scope,
  type Tensor,
  tensorOf,
  zeroMoment,
} from '@lorasmith/tensor';

export interface AdamWSettings {
  weightDecay: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  /**
   * `[parameters]`: what the learning rate of each number is multiplied with, as parameter groups of PyTorch have rates
   * of their own. @defaultValue null, all the same
   */
  rateFactors?: Float32Array | null;
  /** The bits of a number of the moments. @defaultValue 32 */
  momentBits?: 8 | 32;
}

/** PyTorch's defaults but for the weight decay, which is the job's. */
export const ADAMW_DEFAULTS = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 } as const;

/** The bits of a number of the moments, by optimizer. */
export const MOMENT_BITS = { adamw: 32, adamw_8bit: 8 } as const;

/** Running means of the gradient and of its square, `[parameters]` float32 each; in 8 bits `[momentBytes(parameters)]` uint8. */
export type Moments = {
  first: Tensor;
  second: Tensor;
};

/** The settings of one update; see {@link AdamWStep}. Those that the optimizer has too, it has in their place for this update alone. */
export type UpdateSettings = Pick<AdamWStep, 'learningRate' | 'gradientScale' | 'maxNorm'> &
  Partial<Pick<AdamWSettings, 'weightDecay' | 'beta1' | 'beta2' | 'epsilon'>>;

/** An update that is computed and not yet made. Adopt it, or dispose it. */
export type ComputedUpdate = AdamWUpdate & {
  /** `[1]` of the scaled gradient, before clipping */
  squareSum: Tensor;
};

/** The optimizer's state. What an update computes is in the kernel table: `adamW`. */
export class AdamW {
  readonly #kernels: KernelSet;
  readonly #settings: AdamWSettings;
  readonly #rateFactors: Tensor | null;
  #moments: Moments;
  #step = 0;

  constructor(kernels: KernelSet, parameterCount: number, settings: AdamWSettings) {
    this.#kernels = kernels;
    this.#settings = settings;
    const { rateFactors = null } = settings;
    this.#rateFactors = rateFactors === null ? null : keep(tensorOf(rateFactors, [parameterCount]));
    const zeros = () => (settings.momentBits === 8 ? zeroMoment(parameterCount) : fill([parameterCount], 0));
    this.#moments = keep({ first: zeros(), second: zeros() });
  }

  /** Continues an earlier run; the optimizer takes ownership of the tensors. */
  restore(step: number, moments: Moments): void {
    dispose(this.#moments);
    this.#moments = keep(moments);
    this.#step = step;
  }

  get moments(): Moments {
    return this.#moments;
  }

  /** Updates done. */
  get step(): number {
    return this.#step;
  }

  /**
   * Computes the next update. Nothing is changed or freed.
   * @param parameters `[parameters]` float32
   * @param gradient the same shape
   */
  compute(parameters: Tensor, gradient: Tensor, update: UpdateSettings): ComputedUpdate {
    const { weightDecay, beta1, beta2, epsilon } = this.#settings;
    const step = { weightDecay, beta1, beta2, epsilon, ...update, step: this.#step + 1 };
    const state = { parameters, ...this.#moments, rateFactors: this.#rateFactors };
    const kernels = this.#kernels.of('float32');
    return scope(() => {
      const squareSum = kernels.squareSum(gradient, update.gradientScale);
      return { ...kernels.adamW(state, gradient, squareSum, step), squareSum };
    });
  }

  /**
   * Makes a computed update.
   * @returns the new parameters; the caller owns them
   */
  adopt({ parameters, first, second, squareSum }: ComputedUpdate): Tensor {
    dispose([this.#moments, squareSum]);
    this.#moments = keep({ first, second });
    this.#step += 1;
    return parameters;
  }

  dispose(): void {
    dispose([this.#rateFactors, this.#moments]);
  }
}
