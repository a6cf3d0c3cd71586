import { BYTES_PER_ELEMENT, type FloatDType } from '../dtype.js';
import type { Tensor } from '../tensor.js';
import type { AttentionSettings } from './attention.js';
import type { RotaryAngles } from './rotary.js';

/** Tokens of a page: the unit in which a cache is given to texts. */
export const PAGE_TOKENS = 32;

export interface CacheShape {
  /** The heads of each layer. */
  layers: readonly { keyValueHeads: number; headDim: number }[];
  /** Number of pages, of {@link PAGE_TOKENS} each. */
  pages: number;
  /** The windows of the layers. */
  windows: readonly (number | null)[];
  dtype: FloatDType;
}

/** The fused op computes in whole vectors. */
export function paddedHeadDim(headDim: number): number {
  return Math.ceil(headDim / 32) * 32;
}

/** Bytes of a full cache. */
export function cacheSizeBytes({ layers, pages, dtype }: Omit<CacheShape, 'windows'>): number {
  const perToken = layers.reduce(
    (sum, { keyValueHeads, headDim }) => sum + 2 * keyValueHeads * paddedHeadDim(headDim),
    0,
  );
  return pages * PAGE_TOKENS * perToken * BYTES_PER_ELEMENT[dtype];
}

/** A text in one step: some tokens that follow those of it that the cache has. */
export interface CachedText {
  /** Where the text's keys and values are, in its order; enough for the tokens of the step, too. Texts can share whole pages. */
  pages: readonly number[];
  /** Tokens of the text in the cache before this step. */
  cached: number;
  /** Tokens of the text in this step. */
  tokens: number;
  /**
   * Whether they are of what the text began with. On a GPU these have the kernel for many tokens, and those that come one by one
   * another, so that a token's numbers do not depend on how many of its text are read in a step.
   */
  isPrompt: boolean;
}

/** Attention of one step, the same for all layers. */
export interface CacheStep {
  /**
   * Puts keys and values into the cache; each query sees those of its text up to its own.
   * @param qkv `[tokens, (heads + 2 × keyValueHeads) × headDim]`: the tokens of each text, one text after the other
   * @returns `[tokens, heads × headDim]`
   */
  attend(qkv: Tensor, layer: number, settings: AttentionSettings): Tensor;
}

/** Keys (rotated) and values of earlier tokens, for generation. Its memory is divided into pages. */
export interface KeyValueCache {
  /**
   * Lays out a step.
   * @param texts in the order of the stream
   * @param angles `[tokens, headDim / 2]`, of each token's position
   */
  step(texts: readonly CachedText[], angles: RotaryAngles): CacheStep;
  /** Says that a page has nothing that is needed. */
  clear(pages: readonly number[]): void;
  /** Frees the memory. */
  dispose(): void;
}
