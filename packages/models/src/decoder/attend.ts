import type { AttentionSettings, SavedAttention, Tensor } from '@lorasmith/tensor';

/** A layer that attends. The same object in every pass, so a cache can know a layer by it. */
export interface AttendingLayer {
  readonly settings: AttentionSettings;
  /** The index, among the decoder's rotaries, of the one that turns its queries and keys. */
  readonly rope: number;
  /** The decoder's layer whose keys and values it reads: its own index, or that of an earlier one. */
  readonly keysOf: number;
}

/** Attention itself, between the projections. */
export interface Attend {
  /**
   * @param qkv `[tokens, (heads + 2 × keyValueHeads) × headDim]`
   * @returns output `[tokens, heads × headDim]`; saved is null without `record`
   */
  forward(qkv: Tensor, layer: AttendingLayer, record: boolean): { output: Tensor; saved: SavedAttention | null };
  /** Gradient by qkv. Frees what was saved. */
  backward(gradient: Tensor, saved: SavedAttention, layer: AttendingLayer): Tensor;
}
