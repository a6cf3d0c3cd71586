import {
  type DecoderArchitecture,
  hasScores,
  headsOf,
  rotaryDimOf,
  type ScoredAttention,
} from '@lorasmith/model-folder';
import {
  add,
  cast,
  constant,
  dispose,
  type FloatDType,
  gather,
  type KernelSet,
  multiply,
  type StreamGradient,
  scope,
  type Tensor,
  tensorOf,
  tokenRows,
} from '@lorasmith/tensor';
import type { LinearGroup } from '../frozen-linear.js';
import { type ActingAdapter, adaptersAmong, checkedAdapters, type Pass } from '../pass.js';
import { batchAttention } from './attention.js';
import { type BlockContext, freeStream, type Stream, streamSum } from './block.js';
import type { DecoderLayer, SavedLayer } from './decoder-layer.js';
import type { LayerInputs } from './layer-inputs.js';
import type { Norm } from './norm.js';
import { OutputHead } from './output-head.js';
import { queryFactors } from './query-key-step.js';
import { Rotary } from './rotary.js';
import { attendWithin } from './self-attention.js';
import { SharedKeysAndValues } from './shared-keys-values.js';
import { attendInRows, SharedTokens } from './shared-tokens.js';

export interface DecoderWeights {
  /** `[vocab, hidden]` in the model's dtype */
  embedding: Tensor;
  /** `[positions, hidden]` float32; null where positions are not learned */
  positions: Tensor | null;
  /** The inputs of layers in addition to the stream; null: there are none. */
  layerInputs: LayerInputs | null;
  layers: DecoderLayer[];
  finalNorm: Norm;
  /** `[vocab, hidden]`; the embedding itself when tied */
  head: Tensor;
}

/** Rows of tokens, one after the other. */
export interface TokenStream {
  /** `[tokens]` */
  ids: Int32Array;
  /** `[rows]` tokens of each row, in the order of the stream. Rows of similar length are best neighbours. */
  rowLengths: readonly number[];
  /** See {@link TokenBatch}. @defaultValue null */
  places?: Int32Array | null;
}

/** The tensors that a recorded forward pass keeps for the backward pass. Its tensors live until then, or to the end of the scope. */
export interface SavedDecoder {
  context: BlockContext;
  /** null for layers below the lowest trained one. */
  layers: readonly (SavedLayer | null)[];
  /** `[n, hidden]` float32, the stream after the last layer */
  last: Tensor;
  inverseRms: Tensor;
}

/** The attention between the tokens of a pass. */
export type TokenMixing = Pick<BlockContext, 'attend' | 'recurrence'>;

/** A decoder-only language model with frozen weights. */
export class Decoder {
  readonly kind = 'decoder';
  readonly architecture: DecoderArchitecture;
  readonly dtype: FloatDType;
  readonly kernels: KernelSet;
  readonly weights: DecoderWeights;
  readonly head: OutputHead;
  /** The rotary positions of each class of layers, in the order of the architecture's `ropes`. */
  readonly rotaries: readonly Rotary[];

  /** @param options `logitsInChunk`: see {@link OutputHead} */
  constructor(
    architecture: DecoderArchitecture,
    dtype: FloatDType,
    kernels: KernelSet,
    weights: DecoderWeights,
    options: { logitsInChunk?: number | undefined } = {},
  ) {
    this.architecture = architecture;
    this.dtype = dtype;
    this.kernels = kernels;
    this.weights = weights;
    const { logitScale: scale, logitSoftcap: softcap, ropes, names, layers } = architecture;
    const ofHead = { scale, softcap, logitsInChunk: options.logitsInChunk };
    this.head = new OutputHead(kernels, weights.head, names.head, ofHead);
    this.rotaries = ropes.map((rope, index) => {
      // One that no layer has is not used.
      const layer = Math.max(
        0,
        layers.findIndex(({ mixer }) => hasScores(mixer) && mixer.rope === index),
      );
      return new Rotary(rope, headsOf(architecture, layer).headDim, rotaryDimOf(architecture, layer));
    });
  }

  /** The different windows of the layers. */
  get windows(): (number | null)[] {
    return this.#windowsOf(() => true);
  }

  /** See {@link Rotary.isReadAgain}. */
  isReadAgain(before: number, after: number): boolean {
    return this.rotaries.some((rotary) => rotary.isReadAgain(before, after));
  }

  /** True if texts of both lengths have the same rotary angles. */
  hasSameRope(one: number, other: number): boolean {
    return this.rotaries.every((rotary) => rotary.spanClass(one) === rotary.spanClass(other));
  }

  /** All linear layers that can be adapted, in the order of a pass. */
  get groups(): LinearGroup[] {
    const { layerInputs, layers } = this.weights;
    const ofInputs = layerInputs === null ? [] : [layerInputs.group];
    return [...ofInputs, ...layers.flatMap((layer) => layer.groups), this.head.group];
  }

  /**
   * @param positions of each token in its row
   * @returns `[tokens, hidden]` float32
   * @throws RangeError for a position beyond the learned ones
   */
  embed(ids: Int32Array, positions: Int32Array): Tensor {
    const { embedding, positions: learned } = this.weights;
    const { embeddingScale } = this.architecture;
    return scope(() => {
      const own = cast(gather(embedding, tensorOf(ids, [ids.length])), 'float32');
      const scaled = embeddingScale === 1 ? own : multiply(own, constant(embeddingScale));
      if (learned === null) return scaled;
      const beyond = positions.find((position) => position >= learned.shape[0]!);
      // A GPU would read zeros there without an error.
      if (beyond !== undefined) throw new RangeError(`the model has ${learned.shape[0]} positions, none for ${beyond}`);
      return add(scaled, gather(learned, tensorOf(positions, [positions.length])));
    });
  }

  /**
   * Layers below the lowest trained one save nothing.
   * @param wanted indices of the tokens whose hidden states are wanted, ascending
   * @returns hidden `[wanted, hidden]` after the final norm, in the model's dtype; saved is null without `pass.record`; the
   * adapters on the hidden states, for the output head
   */
  forward(
    stream: TokenStream,
    wanted: Int32Array,
    pass: Pass,
  ): { hidden: Tensor; saved: SavedDecoder | null; adapters: readonly ActingAdapter[] } {
    const positions = positionsIn(stream);
    const embedded = this.embed(stream.ids, positions);
    const context = this.#withLayerInputs(this.#contextOf(stream, positions, wanted, pass), stream.ids, embedded);
    const adapters = adaptersAtHead(context);
    const { stream: after, layers } = this.#layersForward(embedded, context, pass.recomputedLayers);
    const last = streamSum(after); // [wanted, hidden]
    freeStream(after, last);
    const { output, inverseRms } = this.weights.finalNorm.forward(last, this.dtype);
    if (pass.record) return { hidden: output, saved: { context, layers, last, inverseRms }, adapters };
    dispose([last, inverseRms]);
    freeShared(context);
    return { hidden: output, saved: null, adapters };
  }

  /**
   * The adapters take up their gradients. Frees what was saved.
   * @param gradient `[wanted, hidden]` of the loss by the hidden states; taken over
   */
  backward(gradient: Tensor, { context, layers: saved, last, inverseRms }: SavedDecoder): void {
    const { layers, finalNorm } = this.weights;
    let current: StreamGradient | null = finalNorm.gradient(gradient, last, inverseRms, null);
    dispose([gradient, last, inverseRms]);
    const lowest = saved.findIndex((layer) => layer !== null);
    for (let index = layers.length - 1; index >= lowest && lowest !== -1 && current !== null; index--) {
      current = layers[index]!.backward(current, saved[index]!, this.#contextAt(index, context), index > lowest);
    }
    dispose(current);
    this.weights.layerInputs?.backward(context);
    freeShared(context);
  }

  /**
   * Runs tokens that see each other as the caller says, for generation. Nothing is recorded.
   * @param tokens with the position of each in its text
   * @param wanted as in {@link forward}
   * @returns as {@link forward}
   */
  forwardWith(
    mixing: TokenMixing,
    { ids, positions }: { ids: Int32Array; positions: Int32Array },
    wanted: Int32Array,
    adapters: readonly ActingAdapter[],
  ): { hidden: Tensor; adapters: readonly ActingAdapter[] } {
    const pass = { adapters, record: false, recomputedLayers: 0 };
    let ofHead = adapters;
    const hidden = scope(() => {
      const embedded = this.embed(ids, positions);
      const context = this.#withLayerInputs(this.#contextWith(mixing, positions, wanted, pass), ids, embedded);
      ofHead = adaptersAtHead(context);
      const last = streamSum(this.#layersForward(embedded, context, 0).stream); // [wanted, hidden]
      return this.weights.finalNorm.forward(last, this.dtype).output;
    });
    return { hidden, adapters: ofHead };
  }

  /**
   * The logits of a small input: nothing is chunked.
   * @returns `[tokens, vocab]` float32 logits of every token
   */
  logits(stream: TokenStream, adapters: readonly ActingAdapter[] = []): Tensor {
    return this.logitsAt(Int32Array.from(stream.ids.keys()), stream, adapters);
  }

  /**
   * The logits of a few tokens of a small input: nothing is chunked.
   * @param indices of the tokens, ascending
   * @returns `[indices, vocab]` float32 logits
   */
  logitsAt(indices: Int32Array, stream: TokenStream, adapters: readonly ActingAdapter[] = []): Tensor {
    return scope(() => {
      const pass = { adapters, record: false, recomputedLayers: 0 };
      const { hidden, adapters: ofHead } = this.forward(stream, indices, pass);
      return cast(this.head.logits(hidden, ofHead), 'float32');
    });
  }

  /** @param wanted null: all */
  #contextOf(
    { ids, rowLengths, places = null }: TokenStream,
    positions: Int32Array,
    wanted: Int32Array | null,
    pass: Pass,
  ): BlockContext {
    const { dtype, kernels } = this;
    const { headCount: heads } = this.architecture;
    const attentions = this.rotaries.map((rotary, index) => {
      const windows = this.#windowsOf(({ rope }) => rope === index);
      return batchAttention({ kernels, rowLengths, heads, rotary, dtype, windows });
    });
    const shared = places === null ? null : new SharedTokens(kernels, places, ids.length);
    const within = attendWithin(attentions);
    const attend = shared === null ? within : attendInRows(within, shared);
    const recurrence = { rows: tokenRows(rowLengths), shared, memory: null };
    return this.#contextWith({ attend, recurrence }, positions, wanted, pass);
  }

  #windowsOf(isAmong: (own: ScoredAttention) => boolean): (number | null)[] {
    const mixers = this.architecture.layers.map(({ mixer }) => mixer).filter(hasScores);
    return [...new Set(mixers.filter(isAmong).map(({ window }) => window))];
  }

  /** @param wanted null: all */
  #contextWith(mixing: TokenMixing, positions: Int32Array, wanted: Int32Array | null, pass: Pass): BlockContext {
    const tokens = positions.length;
    const adapters = checkedAdapters(pass.adapters, tokens);
    const isAll = wanted === null || wanted.length === tokens;
    return {
      adapters,
      record: pass.record,
      ...mixing,
      sharedKeysAndValues: new SharedKeysAndValues(),
      layerInputs: null,
      queryFactors: queryFactors(positions, this.architecture.attention.queryGrowth),
      wanted: isAll ? null : { indices: tensorOf(wanted, [wanted.length]), adapters: adaptersAmong(adapters, wanted) },
    };
  }

  /** @param embedded `[tokens, hidden]` float32 */
  #withLayerInputs(context: BlockContext, ids: Int32Array, embedded: Tensor): BlockContext {
    const { layerInputs } = this.weights;
    return layerInputs === null ? context : { ...context, layerInputs: layerInputs.forward(ids, embedded, context) };
  }

  /** The context of a layer: all tokens are needed until the last layer. */
  #contextAt(index: number, context: BlockContext): BlockContext {
    return index === this.weights.layers.length - 1 ? context : { ...context, wanted: null };
  }

  /** @param x `[tokens, hidden]` float32, the embedded tokens; taken over */
  #layersForward(
    x: Tensor,
    context: BlockContext,
    recomputedLayers: number,
  ): { stream: Stream; layers: (SavedLayer | null)[] } {
    const { layers } = this.weights;
    const lowest = context.record ? this.#lowestRecorded(context) : -1;
    let stream: Stream = { x, branch: null, ownsX: true };
    const saved = layers.map((layer, index) => {
      const record = lowest !== -1 && index >= lowest;
      const recompute = record && index - lowest < recomputedLayers;
      const result = layer.forward(stream, { ...this.#contextAt(index, context), record }, recompute);
      stream = result.stream;
      return result.saved;
    });
    return { stream, layers: saved };
  }

  /** The lowest layer with a gradient, -1 where none has one: a gradient by layer inputs goes through all. */
  #lowestRecorded({ adapters, layerInputs }: BlockContext): number {
    if (layerInputs !== null && layerInputs.saved !== null) return 0;
    return this.weights.layers.findIndex((layer) => layer.isTrained(adapters));
  }

  /** Frees the weights. */
  dispose(): void {
    const { embedding, positions, head, finalNorm, layerInputs, layers } = this.weights;
    dispose([embedding, positions, head]);
    layerInputs?.dispose();
    finalNorm.dispose();
    for (const layer of layers) layer.dispose();
  }
}

/** The adapters on the tokens that reach the output head. */
function adaptersAtHead({ adapters, wanted }: BlockContext): readonly ActingAdapter[] {
  return wanted === null ? adapters : wanted.adapters;
}

/** Frees what layers share in a pass. */
function freeShared({ sharedKeysAndValues, layerInputs }: BlockContext): void {
  sharedKeysAndValues.dispose();
  layerInputs?.dispose();
}

/** `[tokens]`: the position of each in its row, or in all that share it. */
function positionsIn({ ids, rowLengths, places = null }: TokenStream): Int32Array {
  const positions = new Int32Array(ids.length);
  let token = 0;
  for (const length of rowLengths) {
    for (let position = 0; position < length; position++, token++) positions[places?.[token] ?? token] = position;
  }
  return positions;
}
