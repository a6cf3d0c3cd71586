import {
  add,
  constant,
  dispose,
  divide,
  fill,
  keep,
  multiply,
  scope,
  square,
  squareRoot,
  subtract,
  type Tensor,
  tensorOf,
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
}

/** PyTorch's defaults but for the weight decay, which is the job's. */
export const ADAMW_DEFAULTS = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 } as const;

/** Running means of the gradient and of its square, `[parameters]` float32 each. */
export type Moments = {
  first: Tensor;
  second: Tensor;
};

const scalar = (value: number): Tensor => tensorOf(Float32Array.of(value), []);

/**
 * AdamW with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101) as torch.optim.AdamW computes it:
 * `p ← p (1 - lr·decay)`, then `p ← p - lr / (1 - β1ᵗ) · m / (√v / √(1 - β2ᵗ) + ε)`.
 */
export class AdamW {
  readonly #settings: AdamWSettings;
  readonly #rateFactors: Tensor | null;
  #moments: Moments;
  #step = 0;

  constructor(parameterCount: number, settings: AdamWSettings) {
    this.#settings = settings;
    const { rateFactors = null } = settings;
    this.#rateFactors = rateFactors === null ? null : keep(tensorOf(rateFactors, [parameterCount]));
    this.#moments = keep({ first: fill([parameterCount], 0), second: fill([parameterCount], 0) });
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
   * @param parameters `[parameters]` float32
   * @param gradient the same shape
   * @returns the new parameters; neither input is freed
   */
  update(parameters: Tensor, gradient: Tensor, learningRate: number): Tensor {
    const { weightDecay, beta1, beta2, epsilon } = this.#settings;
    this.#step += 1;
    const before = this.#moments;
    const { updated, ...moments } = scope(() => {
      const first = add(multiply(before.first, constant(beta1)), multiply(gradient, constant(1 - beta1)));
      const second = add(multiply(before.second, constant(beta2)), multiply(square(gradient), constant(1 - beta2)));
      const rootCorrection = Math.sqrt(1 - beta2 ** this.#step);
      const denominator = add(divide(squareRoot(second), scalar(rootCorrection)), constant(epsilon));
      const stepSize = this.#perNumber(learningRate / (1 - beta1 ** this.#step));
      const decayed = weightDecay === 0 ? parameters : multiply(parameters, this.#kept(learningRate * weightDecay));
      return { updated: subtract(decayed, multiply(divide(first, denominator), stepSize)), first, second };
    });
    this.#moments = keep(moments);
    dispose(before);
    return updated;
  }

  dispose(): void {
    dispose([this.#rateFactors, this.#moments]);
  }

  /** A rate, `[]`, or where numbers have rates of their own, each one's, `[parameters]`. */
  #perNumber(rate: number): Tensor {
    return this.#rateFactors === null ? scalar(rate) : multiply(this.#rateFactors, scalar(rate));
  }

  /** What decay leaves of a number, 1 - rate. */
  #kept(rate: number): Tensor {
    return this.#rateFactors === null ? scalar(1 - rate) : subtract(constant(1), this.#perNumber(rate));
  }
}
