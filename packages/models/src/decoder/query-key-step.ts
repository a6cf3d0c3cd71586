import type { Tensor } from '@lorasmith/tensor';
import type { Saved } from '../pass.js';

/** The operation of a layer on each head's query and key before attention rotates them. */
export interface QueryKeyStep<Kept extends Saved = Saved> {
  /**
   * @param qkv `[tokens, (heads + 2 × keyValueHeads) × headDim]`
   * @returns the same shape; saved is null without `record`
   */
  forward(qkv: Tensor, record: boolean): { output: Tensor; saved: Kept | null };
  /**
   * Frees what was saved.
   * @param gradient by the output
   * @returns by qkv
   */
  backward(gradient: Tensor, saved: Kept): Tensor;
}

/** Heads of a layer, as they lie in qkv: queries, keys, values. */
export interface HeadShape {
  heads: number;
  keyValueHeads: number;
  headDim: number;
}
