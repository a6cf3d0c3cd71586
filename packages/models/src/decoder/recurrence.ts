import type { DeltaSettings, FloatDType, Tensor, TokenRows } from '@lorasmith/tensor';
import type { SharedTokens } from './shared-tokens.js';

/** A layer that goes through a row token by token. The same object in every pass, so a memory can know a layer by it. */
export interface RecurrentLayer {
  readonly settings: DeltaSettings;
  /** The tokens that an output of its convolution depends on. */
  readonly taps: number;
  /** The numbers of a token that its convolution reads: queries, keys and values. */
  readonly mixedSize: number;
  readonly computeDtype: FloatDType;
}

/** The numbers that linear attention has after the tokens that it has read, of each row. */
export type RecurrentState = {
  /** `[rows, taps - 1, mixed]` in the model's dtype: the latest numbers that the convolution has read; zeros before the first */
  tail: Tensor;
  /** `[rows, valueHeads, keyHeadDim, valueHeadDim]` float32 */
  state: Tensor;
};

/** How linear attention goes through a stream: each row from its start, or on from where generation has left it. */
export interface Recurrence {
  readonly rows: TokenRows;
  /** The tokens that rows share; null: the rows are the stream. */
  readonly shared: SharedTokens | null;
  /** The memory of generation; null: rows begin with zeros, and nothing is kept of them. */
  readonly memory: RecurrentMemory | null;
}

/** The states of the texts of a step, in their order. */
export interface RecurrentMemory {
  /** @param layer whose states; they are the caller's to free, as all of a scope */
  before(layer: RecurrentLayer): RecurrentState;
  /**
   * @param mixed `[tokens, mixed]`, what the convolution of the layer has read in this step
   * @param state as in {@link RecurrentState}, after the step
   */
  after(layer: RecurrentLayer, mixed: Tensor, state: Tensor): void;
}
