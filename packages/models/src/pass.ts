import type { LoraPart, RowRange, Tensor, TensorTree } from '@lorasmith/tensor';
import type { LinearGroup } from './frozen-linear.js';

/**
 * The tensors that a part of a model keeps between its forward and its backward pass. It is plain data and owns every tensor in it:
 * the backward pass frees each as soon as it is used, and `dispose(saved)` frees them all.
 */
export type Saved = TensorTree;

/** The dropout of a pass follows from these two integers alone: the seed of the training and the number of the pass. */
export type DropoutSeed = readonly [seed: number, pass: number];

/** The effect of an adapter at one group of linear layers. */
export interface GroupAdapter<Kept extends Saved = Saved> {
  /** True if a backward pass has something to learn here. */
  readonly trained: boolean;
  /** Set for low-rank adapters. One op then computes several of them, and `forward` and `backward` below are not called. */
  readonly lowRank?: LowRankAdapter;
  /**
   * @param x `[tokens, in]`; taken over
   * @param base makes the output of the frozen layers, `[tokens, out]`, which is the caller's to free; called at most once
   * @param options `record`: whether backward will follow; without it nothing is saved. `dropoutSeed`: null for no dropout
   * @returns output `[tokens, out]` in the dtype of x
   */
  forward(
    x: Tensor,
    base: () => Tensor,
    options: { record: boolean; dropoutSeed: DropoutSeed | null },
  ): { output: Tensor; saved: Kept | null };
  /**
   * Frees what was saved. The gradients of trained numbers stay with the adapter.
   * @param gradient `[tokens, out]` of the loss by the output
   * @param base makes the gradient by the input of the frozen layers, `[tokens, in]`; as in {@link forward}
   * @returns `[tokens, in]` of the loss by the input; null when it is not wanted
   */
  backward(gradient: Tensor, base: () => Tensor, saved: Kept, wantInputGradient: boolean): Tensor | null;
}

/** A low-rank adapter as the ops for several of them take it. */
export interface LowRankAdapter {
  partOn(rows: RowRange, dropoutSeed: DropoutSeed | null): LoraPart;
  /** Adds to the gradient of its numbers; takes the tensor over. */
  addGradient(gradient: Tensor): void;
}

/** A change of a base model's linear layers for the time of a pass; the base itself is never changed. */
export interface ModelAdapter {
  /** The effect at this group; null: none, the frozen layers act alone. */
  at(group: LinearGroup): GroupAdapter | null;
}

/** Some tokens of a stream that are next to each other. */
export type TokenRange = RowRange;

/** An adapter in a pass. */
export interface ActingAdapter {
  adapter: ModelAdapter;
  /** The tokens it acts on: those of some rows. @defaultValue all */
  tokens?: TokenRange | undefined;
  /** @defaultValue no dropout */
  dropoutSeed?: DropoutSeed | undefined;
}

/** One run of a base model over a stream of tokens. */
export interface Pass {
  /**
   * The acting adapters, in the order of their tokens, which do not overlap. Tokens that none owns are computed by the base
   * alone.
   */
  readonly adapters: readonly ActingAdapter[];
  /** True if a backward pass will follow. */
  readonly record: boolean;
  /**
   * Number of layers, from the lowest trained one on, of which only the input is kept: the backward pass computes the rest again.
   * Less memory, more time, the same numbers. They are the lowest ones, because what the layers above have kept is freed when
   * they are computed again. {@link ALL_LAYERS} and every number beyond them mean all.
   */
  readonly recomputedLayers: number;
}

export const ALL_LAYERS = Number.POSITIVE_INFINITY;

/** True if a backward pass has something to learn at a group. */
export function isTrained(group: LinearGroup, adapters: readonly ActingAdapter[]): boolean {
  return adapters.some(({ adapter }) => adapter.at(group)?.trained ?? false);
}

/**
 * Adapters as a pass over `tokens` tokens uses them: one that owns all tokens has no range.
 * @throws RangeError when ranges overlap, are out of order or reach beyond the stream
 */
export function checkedAdapters(adapters: readonly ActingAdapter[], tokens: number): readonly ActingAdapter[] {
  let next = 0;
  return adapters.map((acting) => {
    const { first, count } = acting.tokens ?? { first: 0, count: tokens };
    if (first < next || count < 0 || first + count > tokens) {
      const range = `tokens ${first} to ${first + count} of ${tokens}`;
      throw new RangeError(`An adapter cannot own ${range}: ranges must ascend, not overlap, and lie in the stream.`);
    }
    next = first + count;
    return count === tokens ? { ...acting, tokens: undefined } : acting;
  });
}

/**
 * Adapters on what is left of a stream when only some of its tokens are kept.
 * @param kept ascending
 */
export function adaptersAmong(adapters: readonly ActingAdapter[], kept: Int32Array): readonly ActingAdapter[] {
  const before = (token: number) => {
    const index = kept.findIndex((one) => one >= token);
    return index === -1 ? kept.length : index;
  };
  return adapters.map((acting) => {
    if (acting.tokens === undefined) return acting;
    const first = before(acting.tokens.first);
    const tokens = { first, count: before(acting.tokens.first + acting.tokens.count) - first };
    return { ...acting, tokens: tokens.count === kept.length ? undefined : tokens };
  });
}

/** Adapters on what is left of a stream when only the tokens of one range are kept. */
export function adaptersWithin(adapters: readonly ActingAdapter[], kept: TokenRange): readonly ActingAdapter[] {
  return adapters.flatMap((acting) => {
    if (acting.tokens === undefined) return [acting];
    const first = Math.max(acting.tokens.first, kept.first);
    const count = Math.min(acting.tokens.first + acting.tokens.count, kept.first + kept.count) - first;
    if (count <= 0) return [];
    return [{ ...acting, tokens: count === kept.count ? undefined : { first: first - kept.first, count } }];
  });
}
