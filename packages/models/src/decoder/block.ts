import {
  add,
  alias,
  cast,
  dispose,
  type FloatDType,
  gather,
  type StreamGradient,
  scatter,
  scope,
  type Tensor,
} from '@lorasmith/tensor';
import type { LinearGroup } from '../frozen-linear.js';
import { type ActingAdapter, isTrained, type Saved } from '../pass.js';
import { branchGradient, type Norm, normBranch, type SavedBranch } from './norm.js';
import type { PassLayerInputs } from './pass-layer-inputs.js';
import { scaledBy } from './scaled-by.js';
import type { SharedKeysAndValues } from './shared-keys-values.js';
import type { Attend, Recurrence } from './shared-tokens.js';

/**
 * The residual stream between two blocks. Its last addition is left to the norm that follows: one pass over memory does
 * both.
 */
export interface Stream {
  /** `[tokens, hidden]` float32 */
  x: Tensor;
  /** `[tokens, hidden]` in the model's dtype, still to be added; null before the first block */
  branch: Tensor | null;
  /** True if x is freed with the stream; otherwise a block has saved it. */
  ownsX: boolean;
}

/** `[tokens, hidden]` float32: the stream with its last addition made. */
export function streamSum({ x, branch }: Stream): Tensor {
  return branch === null ? x : scope(() => add(x, cast(branch, 'float32')));
}

/** Frees a stream, except for this tensor. */
export function freeStream({ x, branch, ownsX }: Stream, except?: Tensor): void {
  dispose(branch);
  if (ownsX && x !== except) dispose(x);
}

/** The only tokens that are wanted after the last block that mixes tokens: those with a label, for instance. */
export interface WantedTokens {
  /** `[n]` int32, ascending */
  indices: Tensor;
  /** The adapters of the pass, on these tokens. */
  adapters: readonly ActingAdapter[];
}

/** The context that a pass gives to each block. */
export interface BlockContext {
  /** The adapters on the tokens that enter the block. */
  adapters: readonly ActingAdapter[];
  record: boolean;
  /** The attention between tokens: within the rows of a batch, or what generation has cached. */
  attend: Attend;
  /** The recurrence of linear attention over the tokens. */
  recurrence: Recurrence;
  /** The keys and values that layers read of earlier ones. */
  sharedKeysAndValues: SharedKeysAndValues;
  /** The inputs of layers in addition to the stream; null: there are none. */
  layerInputs: PassLayerInputs | null;
  /** `[tokens, 1]` in float32, by which queries are multiplied; null: they are not. */
  queryFactors: Tensor | null;
  /** The block gives these tokens only; null: all that entered it. */
  wanted: WantedTokens | null;
}

/**
 * The part of a block between its norm and the residual stream: attention, linear attention, feed-forward, or a mixture of
 * experts.
 */
export interface Sublayer<Kept extends Saved = Saved> {
  readonly groups: readonly LinearGroup[];
  /** The type of x and the output. */
  readonly computeDtype: FloatDType;
  /** True if an output depends on other tokens. Only such a sublayer is given `wanted`. */
  readonly mixesTokens: boolean;
  /**
   * @param x `[tokens, hidden]`, normed; taken over
   * @returns output `[wanted tokens, hidden]`; saved is null without `record`
   */
  forward(x: Tensor, context: BlockContext): { output: Tensor; saved: Kept | null };
  /**
   * Takes `gradient` over and frees what was saved.
   * @param gradient `[wanted tokens, hidden]` by the output
   * @param inputAgain makes x of the forward pass, with the same bits: it is computed again rather than saved
   * @returns `[tokens, hidden]` by x; null when it is not wanted
   */
  backward(
    gradient: Tensor,
    saved: Kept,
    context: BlockContext,
    wantInputGradient: boolean,
    inputAgain: () => Tensor,
  ): Tensor | null;
  /** Frees the weights. */
  dispose(): void;
}

/** The tensors that a block keeps for its backward pass. */
export type SavedBlock = {
  /** `[tokens, hidden]` float32; also the `x` of the stream that the block gives, unless that has the wanted tokens only */
  input: Tensor;
  /** null without a norm */
  inverseRms: Tensor | null;
  sublayer: Saved;
  branch: SavedBranch | null;
};

/** The sublayer of a block, and the steps before and after it. */
export interface BlockParts {
  /** null: the sublayer reads the stream itself */
  norm: Norm | null;
  sublayer: Sublayer;
  /** The norm of what is added to the stream. @defaultValue null: none */
  branchNorm?: Norm | null;
  /** The factor of what is added to the stream. @defaultValue 1 */
  branchScale?: number;
}

/**
 * One step of the residual stream: `x + branchScale · branchNorm(sublayer(norm(x)))`. Most families have neither of the first
 * two.
 */
export class Block {
  readonly norm: Norm | null;
  readonly sublayer: Sublayer;
  readonly branchNorm: Norm | null;
  readonly #branchScale: number;

  constructor({ norm, sublayer, branchNorm = null, branchScale = 1 }: BlockParts) {
    this.norm = norm;
    this.sublayer = sublayer;
    this.branchNorm = branchNorm;
    this.#branchScale = branchScale;
  }

  isTrained(adapters: readonly ActingAdapter[]): boolean {
    return this.sublayer.groups.some((group) => isTrained(group, adapters));
  }

  /**
   * @param stream taken over
   * @returns the stream after the block; saved is null without `record`
   */
  forward(stream: Stream, context: BlockContext): { stream: Stream; saved: SavedBlock | null } {
    const { record, wanted } = context;
    const { sum, output, inverseRms } = this.#normed(stream);
    freeStream(stream, sum);
    const ownsSum = stream.ownsX || sum !== stream.x;
    const computed = this.sublayer.forward(output, context);
    const branch = normBranch(this.branchNorm, computed.output, record);
    const x = wanted === null ? sum : gather(sum, wanted.indices);
    const after = { x, branch: this.#scaled(branch.output) };
    if (record && computed.saved !== null) {
      const saved = { input: sum, inverseRms, sublayer: computed.saved, branch: branch.saved };
      return { stream: { ...after, ownsX: x !== sum }, saved };
    }
    dispose(inverseRms);
    if (x !== sum && ownsSum) dispose(sum);
    return { stream: { ...after, ownsX: ownsSum || x !== sum }, saved: null };
  }

  #normed({ x, branch }: Stream): { sum: Tensor; output: Tensor; inverseRms: Tensor | null } {
    if (this.norm !== null && branch !== null) return this.norm.addForward(x, branch);
    const sum = streamSum({ x, branch, ownsX: false });
    return { sum, ...this.#normedSum(sum) };
  }

  /** The sublayer's input, of the stream: the same bits as of its two parts. */
  #normedSum(sum: Tensor): { output: Tensor; inverseRms: Tensor | null } {
    const { norm, sublayer } = this;
    if (norm !== null) return norm.forward(sum, sublayer.computeDtype);
    return { output: scope(() => cast(alias(sum), sublayer.computeDtype)), inverseRms: null };
  }

  /** A branch, or the gradient by one, times the factor of the branch. Takes it over. */
  #scaled(branch: Tensor): Tensor {
    if (this.#branchScale === 1) return branch;
    const scaled = scaledBy(branch, this.#branchScale);
    branch.dispose();
    return scaled;
  }

  /**
   * Frees `gradient` and everything saved, each as soon as it is used.
   * @param gradient `[tokens, hidden]` by the stream after the block, of the tokens that it has
   * @param context as forward had it
   * @returns by the stream before it; null when it is not wanted
   */
  backward(
    gradient: StreamGradient,
    saved: SavedBlock,
    context: BlockContext,
    wantInputGradient: boolean,
  ): StreamGradient | null {
    const byBranch = branchGradient(this.branchNorm, this.#scaled(gradient.rounded), saved.branch);
    const inputAgain = () => {
      const { output, inverseRms } = this.#normedSum(saved.input);
      dispose(inverseRms);
      return output;
    };
    const byNormed = this.sublayer.backward(byBranch, saved.sublayer, context, wantInputGradient, inputAgain);
    if (byNormed === null) {
      dispose([gradient.exact, saved]);
      return null;
    }
    const residual = everywhere(gradient.exact, context.wanted, saved.input.shape[0]!);
    const byInput = this.#gradientByInput(byNormed, saved, residual);
    dispose([residual, byNormed, saved]);
    return byInput;
  }

  #gradientByInput(byNormed: Tensor, { input, inverseRms }: SavedBlock, residual: Tensor): StreamGradient {
    if (this.norm !== null) return this.norm.gradient(byNormed, input, inverseRms!, residual);
    return scope(() => {
      const exact = add(residual, cast(byNormed, 'float32'));
      return { exact, rounded: cast(alias(exact), byNormed.dtype) };
    });
  }

  /** Frees the weights. */
  dispose(): void {
    this.norm?.dispose();
    this.branchNorm?.dispose();
    this.sublayer.dispose();
  }
}

/** A gradient by the wanted tokens as one by all, zero elsewhere. Takes it over. */
export function everywhere(gradient: Tensor, wanted: WantedTokens | null, tokens: number): Tensor {
  if (wanted === null) return gradient;
  const scattered = scatter(wanted.indices, gradient, tokens);
  dispose(gradient);
  return scattered;
}
