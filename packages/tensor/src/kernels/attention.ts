import type { Tensor, TensorTree } from '../tensor.js';
import type { RotaryAngles } from './rotary.js';

/** Settings of attention in one layer. */
export interface AttentionSettings {
  /** Number of query heads. */
  heads: number;
  /** Divides `heads`. */
  keyValueHeads: number;
  headDim: number;
  /** The factor of the scores. */
  scale: number;
  /** Query i sees keys j with i - window < j ≤ i; null: all j ≤ i. */
  window: number | null;
  /** A scaled score s becomes softcap · tanh(s / softcap); null: stays. */
  softcap: number | null;
  /**
   * `[heads]` float32: a frozen logit of each head that is in the softmax beside its scores and has no value, so that weights sum to
   * less than one (attention sinks, Xiao et al. 2024, arXiv:2309.17453). @defaultValue there is none
   */
  sinks?: Tensor | undefined;
}

/** The rows of a batch, one after the other in one stream of tokens. */
export interface AttentionRows {
  /** Lengths in the order of the stream; rows of similar length should be neighbours. */
  lengths: readonly number[];
  /** Number of query heads. */
  heads: number;
  /** Angles of positions 0, 1, … at least to the end of the longest row. */
  angles: RotaryAngles;
  /** The windows of the layers. */
  windows: readonly (number | null)[];
}

/** Attention over the rows of one batch, laid out as its kernel needs them. Made once per batch, used by every layer. */
export interface BatchAttention {
  /**
   * Causal grouped-query attention within each row (arXiv:2305.13245), with rotary positions.
   * @param qkv `[tokens, (heads + 2 × keyValueHeads) × headDim]`: queries, keys and values of each token
   * @returns output `[tokens, heads × headDim]`; saved is null without `record`
   */
  forward(qkv: Tensor, settings: AttentionSettings, record: boolean): { output: Tensor; saved: SavedAttention | null };
  /**
   * Gradient by qkv. Frees what was saved.
   * @param gradient `[tokens, heads × headDim]`
   * @returns `[tokens, (heads + 2 × keyValueHeads) × headDim]`
   */
  backward(gradient: Tensor, saved: SavedAttention, settings: AttentionSettings): Tensor;
}

/** The live tensors that attention keeps for its backward pass. Only the {@link BatchAttention} that made it looks inside. */
export type SavedAttention = TensorTree;
