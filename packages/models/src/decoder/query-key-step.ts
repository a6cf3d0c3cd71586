import type { Tensor } from '@lorasmith/tensor';

/** What a layer does to each head's query and key before attention rotates them. */
export interface QueryKeyStep {
  /**
   * @param qkv `[tokens, (heads + 2 × keyValueHeads) × headDim]`
   * @returns the same shape; saved is null without `record`
   */
  forward(qkv: Tensor, record: boolean): { output: Tensor; saved: object | null };
  /**
   * Frees what was saved.
   * @param gradient by the output
   * @returns by qkv
   */
  backward(gradient: Tensor, saved: object | null): Tensor;
}

/** Heads of a layer, as they lie in qkv: queries, keys, values. */
export interface HeadShape {
  heads: number;
  keyValueHeads: number;
  headDim: number;
}
