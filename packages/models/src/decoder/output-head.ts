import { LOGITS_PER_CHUNK } from '@lorasmith/model-folder';
import {
  cast,
  constant,
  dispose,
  kernelsFor,
  matMul,
  multiply,
  scope,
  square,
  subtract,
  type Tensor,
} from '@lorasmith/tensor';
import { scaledBy } from './scaled-by.js';

export interface OutputHeadSettings {
  /** The factor of the logits. @defaultValue 1 */
  scale?: number | undefined;
  /** Logits are bounded to ±softcap. @defaultValue null: they are not */
  softcap?: number | null;
  /** @defaultValue LOGITS_PER_CHUNK */
  logitsInChunk?: number | undefined;
}

/** The layer from hidden states to the logits of the next token: `scale · W h`, in some families bounded to ±softcap. */
export class OutputHead {
  readonly vocabSize: number;
  /** Hidden states whose logits are computed at once; at least 1. */
  readonly chunkSize: number;
  /** `[vocab, hidden]` */
  readonly #weight: Tensor;
  readonly #scale: number;
  readonly #softcap: number | null;

  /** @param weight the caller's to free */
  constructor(
    weight: Tensor,
    { scale = 1, softcap = null, logitsInChunk = LOGITS_PER_CHUNK }: OutputHeadSettings = {},
  ) {
    this.vocabSize = weight.shape[0]!;
    this.chunkSize = Math.max(1, Math.floor(logitsInChunk / this.vocabSize));
    this.#weight = weight;
    this.#scale = scale;
    this.#softcap = softcap;
  }

  /**
   * @param hidden `[n, hidden]` in the model's dtype
   * @returns `[n, vocab]`, in float32 where they are capped: softcap · tanh(logit / softcap)
   */
  logits(hidden: Tensor): Tensor {
    const softcap = this.#softcap;
    const scaled = this.#scaled(hidden);
    const logits = matMul(scaled, this.#weight, { transposeB: true });
    if (scaled !== hidden) dispose(scaled);
    if (softcap === null) return logits;
    const capped = scope(() => {
      const heights = kernelsFor('float32').activation(
        multiply(cast(logits, 'float32'), constant(1 / softcap)),
        'tanh',
      );
      return multiply(heights, constant(softcap));
    });
    logits.dispose();
    return capped;
  }

  /**
   * Takes both over.
   * @param gradient `[n, vocab]` by the logits
   * @param logits as {@link logits} gave them
   * @returns `[n, hidden]` by the hidden states
   */
  backward(gradient: Tensor, logits: Tensor): Tensor {
    const byProduct = this.#softcap === null ? gradient : this.#uncapped(gradient, logits, this.#softcap);
    // Logits are the largest tensors of a pass: only one of their size is alive during the product.
    if (byProduct !== gradient) dispose(gradient);
    dispose(logits);
    const byScaled = matMul(byProduct, this.#weight); // [n, vocab] x [vocab, hidden]
    dispose(byProduct);
    const byHidden = this.#scaled(byScaled);
    if (byHidden !== byScaled) dispose(byScaled);
    return byHidden;
  }

  /** Hidden states, or the gradient by them, times the factor of the logits; themselves if it is 1. */
  #scaled(hidden: Tensor): Tensor {
    return this.#scale === 1 ? hidden : scaledBy(hidden, this.#scale);
  }

  /** Gradient by the logits before they are capped, in the dtype of the weight. */
  #uncapped(gradient: Tensor, capped: Tensor, softcap: number): Tensor {
    const exact = scope(() => {
      const slope = subtract(constant(1), square(multiply(capped, constant(1 / softcap))));
      return multiply(gradient, slope);
    });
    const rounded = cast(exact, this.#weight.dtype);
    if (rounded !== exact) dispose(exact);
    return rounded;
  }
}
