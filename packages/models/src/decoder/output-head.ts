import { LOGITS_PER_CHUNK } from '@lorasmith/model-folder';
import {
  alias,
  cast,
  constant,
  dispose,
  type KernelSet,
  multiply,
  scope,
  square,
  subtract,
  type Tensor,
} from '@lorasmith/tensor';
import { linearBackward, linearForward, type SavedLinear } from '../adapted-linear.js';
import { DenseLinear, type LinearGroup } from '../frozen-linear.js';
import type { ActingAdapter } from '../pass.js';
import { scaledBy } from './scaled-by.js';

export interface OutputHeadSettings {
  /** The factor of the logits. @defaultValue 1 */
  scale?: number | undefined;
  /** Logits are bounded to ±softcap. @defaultValue null: they are not */
  softcap?: number | null;
  /** @defaultValue LOGITS_PER_CHUNK */
  logitsInChunk?: number | undefined;
}

/** The tensors that a forward pass with adapters on the head keeps for its backward pass. */
export type SavedHead = SavedLinear | null;

/**
 * The layer from hidden states to the logits of the next token: `scale · W h`, in some families bounded to ±softcap. Adapters
 * act on W as at any linear layer; a head that is tied to the embedding leaves the embedding as it is.
 */
export class OutputHead {
  readonly vocabSize: number;
  /** Hidden states whose logits are computed at once; at least 1. */
  readonly chunkSize: number;
  /** The layer alone in its group. */
  readonly group: LinearGroup;
  readonly #scale: number;
  readonly #softcap: number | null;

  /**
   * @param weight `[vocab, hidden]`, the caller's to free
   * @param name the layer's full name
   */
  constructor(
    kernels: KernelSet,
    weight: Tensor,
    name: string,
    { scale = 1, softcap = null, logitsInChunk = LOGITS_PER_CHUNK }: OutputHeadSettings = {},
  ) {
    this.vocabSize = weight.shape[0]!;
    this.chunkSize = Math.max(1, Math.floor(logitsInChunk / this.vocabSize));
    this.group = { modules: [{ name, outFeatures: this.vocabSize }], linear: new DenseLinear(kernels, weight, null) };
    this.#scale = scale;
    this.#softcap = softcap;
  }

  /**
   * @param hidden `[n, hidden]` in the model's dtype; stays the caller's
   * @param adapters on these hidden states
   * @param record whether {@link backward} will follow
   * @returns logits `[n, vocab]`, in float32 where they are capped: softcap · tanh(logit / softcap)
   */
  forward(hidden: Tensor, adapters: readonly ActingAdapter[], record: boolean): { logits: Tensor; saved: SavedHead } {
    const { output: logits, saved } = linearForward(
      this.group,
      this.#scaled(hidden),
      adapters,
      record ? 'all' : 'none',
    );
    const softcap = this.#softcap;
    if (softcap === null) return { logits, saved };
    const capped = scope(() => {
      const heights = this.group.linear.kernels
        .of('float32')
        .activation(multiply(cast(logits, 'float32'), constant(1 / softcap)), 'tanh');
      return multiply(heights, constant(softcap));
    });
    logits.dispose();
    return { logits: capped, saved };
  }

  /** The logits of {@link forward} alone. */
  logits(hidden: Tensor, adapters: readonly ActingAdapter[]): Tensor {
    return this.forward(hidden, adapters, false).logits;
  }

  /**
   * Takes gradient and logits over, and frees what was saved. The adapters take up their gradients.
   * @param gradient `[n, vocab]` by the logits
   * @param adapters as {@link forward} had them
   * @returns `[n, hidden]` by the hidden states; null when it is not wanted
   */
  backward(
    gradient: Tensor,
    { logits, saved }: { logits: Tensor; saved: SavedHead },
    adapters: readonly ActingAdapter[],
    wantInputGradient: boolean,
  ): Tensor | null {
    const byProduct = this.#softcap === null ? gradient : this.#uncapped(gradient, logits, this.#softcap);
    // Logits are the largest tensors of a pass: only one of their size is alive during the product.
    if (byProduct !== gradient) dispose(gradient);
    dispose(logits);
    const byScaled = linearBackward(this.group, byProduct, saved!, adapters, wantInputGradient);
    if (byScaled === null) return null;
    const byHidden = this.#scaled(byScaled);
    dispose(byScaled);
    return byHidden;
  }

  /** Hidden states, or the gradient by them, times the factor of the logits, as a tensor of its own. */
  #scaled(hidden: Tensor): Tensor {
    return this.#scale === 1 ? alias(hidden) : scaledBy(hidden, this.#scale);
  }

  /** Gradient by the logits before they are capped, in the dtype of the weight. */
  #uncapped(gradient: Tensor, capped: Tensor, softcap: number): Tensor {
    const exact = scope(() => {
      const slope = subtract(constant(1), square(multiply(capped, constant(1 / softcap))));
      return multiply(gradient, slope);
    });
    const rounded = cast(exact, this.group.linear.computeDtype);
    if (rounded !== exact) dispose(exact);
    return rounded;
  }
}
