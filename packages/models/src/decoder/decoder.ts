import type { DecoderArchitecture } from '@lorasmith/model-folder';
import {
  add,
  type BatchAttention,
  cast,
  concat,
  constant,
  dispose,
  type FloatDType,
  gather,
  matMul,
  multiply,
  type StreamGradient,
  scope,
  type Tensor,
  tensorOf,
} from '@lorasmith/tensor';
import type { ProjectionSlot } from '../projection.js';
import type { TokenBatch } from '../token-batch.js';
import type { BatchLoss, TrainableModel } from '../trainable-model.js';
import { batchAttention } from './attention.js';
import { type Attend, type DecoderLayer, type SavedLayer, type Stream, streamSum } from './decoder-layer.js';
import { capLogits, nextTokenLoss } from './next-token-loss.js';
import type { Norm } from './norm.js';
import { Rotary } from './rotary.js';

export interface DecoderWeights {
  /** `[vocab, hidden]` in the model's dtype */
  embedding: Tensor;
  /** `[positions, hidden]` float32; null where positions are not learned */
  positions: Tensor | null;
  layers: DecoderLayer[];
  finalNorm: Norm;
  /** `[vocab, hidden]`; the embedding itself when tied */
  head: Tensor;
}

export interface DecoderOptions {
  /** Logits that are computed at once in a loss, by default 2^24. */
  mostLogits?: number;
}

/** A decoder-only language model with frozen weights. */
export class Decoder implements TrainableModel<TokenBatch> {
  readonly architecture: DecoderArchitecture;
  readonly dtype: FloatDType;
  readonly weights: DecoderWeights;
  readonly rotary: Rotary;
  /** What the layers have as their window, each once. */
  readonly windows: readonly (number | null)[];
  readonly #options: DecoderOptions;
  /** Layers keep their input only, and are computed again in the backward pass: less memory, more time, the same numbers. */
  recompute = false;

  constructor(
    architecture: DecoderArchitecture,
    dtype: FloatDType,
    weights: DecoderWeights,
    options: DecoderOptions = {},
  ) {
    this.architecture = architecture;
    this.dtype = dtype;
    this.weights = weights;
    this.rotary = new Rotary(architecture);
    this.windows = [...new Set(architecture.attention.layers.map(({ window }) => window))];
    this.#options = options;
  }

  get slots(): ProjectionSlot[] {
    return this.weights.layers.flatMap((layer) => layer.slots);
  }

  /**
   * @param places position of each token in its row
   * @returns `[tokens, hidden]` float32
   * @throws RangeError for a place beyond the learned positions
   */
  embed(ids: Int32Array, places: Int32Array): Tensor {
    const { embedding, positions } = this.weights;
    const { embeddingScale } = this.architecture;
    return scope(() => {
      const own = cast(gather(embedding, tensorOf(ids, [ids.length])), 'float32');
      const scaled = embeddingScale === 1 ? own : multiply(own, constant(embeddingScale));
      if (positions === null) return scaled;
      const beyond = places.find((place) => place >= positions.shape[0]!);
      // A GPU would read zeros there and not complain.
      if (beyond !== undefined)
        throw new RangeError(`the model has ${positions.shape[0]} positions, none for ${beyond}`);
      return add(scaled, gather(positions, tensorOf(places, [places.length])));
    });
  }

  /**
   * @param hidden `[tokens, hidden]` float32, the last layer's output
   * @returns `[tokens, vocab]` float32
   */
  headLogits(hidden: Tensor): Tensor {
    return scope(() => {
      const { output } = this.weights.finalNorm.forward(hidden, this.dtype);
      const logits = matMul(output, this.weights.head, { transposeB: true });
      return cast(capLogits(logits, this.architecture.logitSoftcap), 'float32');
    });
  }

  /**
   * For tests and small inputs: nothing is chunked.
   * @param span as {@link TokenBatch} has it; default: the longest row's length
   * @returns `[tokens, vocab]` float32 logits at every place
   */
  logits(ids: Int32Array, rowLengths: number[], span?: number): Tensor {
    return scope(() => this.headLogits(this.#lastHidden(ids, rowLengths, span)));
  }

  /**
   * Of a few places of a small input: nothing is chunked.
   * @param places in the stream
   * @returns `[places, vocab]` float32 logits
   */
  logitsAt(places: Int32Array, ids: Int32Array, rowLengths: number[]): Tensor {
    return scope(() => this.headLogits(gather(this.#lastHidden(ids, rowLengths), tensorOf(places, [places.length]))));
  }

  /** `[tokens, hidden]` float32, after the last layer. */
  #lastHidden(ids: Int32Array, rowLengths: number[], span?: number): Tensor {
    return scope(() => {
      const attention = this.#attention({ rowLengths, span });
      return streamSum(this.#forward({ ids, rowLengths }, attention, false).stream);
    });
  }

  #attention({ rowLengths, span }: Pick<TokenBatch, 'rowLengths'> & { span?: number | undefined }): BatchAttention {
    const { rotary, dtype, windows } = this;
    return batchAttention({ rowLengths, rotary, dtype, windows, span });
  }

  loss(batch: TokenBatch): BatchLoss {
    return scope(() => {
      const attention = this.#attention(batch);
      const { stream } = this.#forward(batch, attention, false, predictorsOf(batch));
      const { lossSum } = this.#headLoss(stream, batch, false);
      return { lossSum, labels: batch.labels.length, correct: null };
    });
  }

  lossAndGradients(batch: TokenBatch): BatchLoss {
    return scope(() => {
      const attention = this.#attention(batch);
      const { stream, saved } = this.#forward(batch, attention, true, predictorsOf(batch));
      const { lossSum, gradient } = this.#headLoss(stream, batch, true);
      dispose(stream.branch);
      this.#backward(gradient!, saved, attention);
      return { lossSum, labels: batch.labels.length, correct: null };
    });
  }

  /**
   * Layers below the lowest trained one save nothing.
   * @param wanted places of the only tokens that the stream has after the last layer; null: all
   */
  #forward(
    { ids, rowLengths }: Pick<TokenBatch, 'ids' | 'rowLengths'>,
    attention: BatchAttention,
    record: boolean,
    wanted: Tensor | null = null,
  ): { stream: Stream; saved: (KeptLayer | null)[] } {
    const { layers } = this.weights;
    const lowestTrained = layers.findIndex((layer) => layer.trained);
    let stream: Stream = { x: this.embed(ids, placesInRows(rowLengths)), branch: null };
    const saved: (KeptLayer | null)[] = [];
    for (const [index, layer] of layers.entries()) {
      const recordLayer = record && lowestTrained !== -1 && index >= lowestTrained;
      const before = stream;
      const places = index === layers.length - 1 ? wanted : null;
      const result =
        recordLayer && this.recompute
          ? forwardKeepingInput(layer, before, attention, places)
          : layer.forward(before, attendIn(layer, attention, recordLayer), recordLayer, places);
      stream = result.stream;
      saved.push(result.saved);
      dispose(before.branch);
      const last = saved[index - 1];
      const lastMiddle = last && 'middle' in last ? last.middle : null;
      if (before.x !== lastMiddle && before.x !== result.saved?.input) dispose(before.x);
    }
    return { stream, saved };
  }

  /** @param stream at the labelled places, after the last layer @returns the loss, and its gradient by the stream */
  #headLoss(stream: Stream, batch: TokenBatch, record: boolean): { lossSum: number; gradient: StreamGradient | null } {
    return scope(() => {
      const { finalNorm, head } = this.weights;
      const labels = tensorOf(batch.labels, [batch.labels.length]);
      const last = streamSum(stream); // [labels, hidden]
      const normed = finalNorm.forward(last, this.dtype);
      const { lossSum, gradientChunks } = nextTokenLoss(normed.output, labels, head, {
        record,
        softcap: this.architecture.logitSoftcap,
        mostLogits: this.#options.mostLogits,
      });
      if (!record) return { lossSum, gradient: null };
      const normedGradient = concat(gradientChunks, 0);
      dispose(gradientChunks);
      return { lossSum, gradient: finalNorm.gradient(normedGradient, last, normed.inverseRms, null) };
    });
  }

  #backward(gradient: StreamGradient, saved: (KeptLayer | null)[], attention: BatchAttention): void {
    const { layers } = this.weights;
    const lowestTrained = layers.findIndex((layer) => layer.trained);
    let current: StreamGradient | null = gradient;
    for (let index = layers.length - 1; index >= 0 && current !== null; index--) {
      const layer = layers[index]!;
      const kept = saved[index];
      if (kept === null || kept === undefined) break;
      const own = 'middle' in kept ? kept : recomputed(layer, kept, attention);
      current = layer.backward(current, own, attention, index > lowestTrained);
    }
    dispose(current);
  }

  dispose(): void {
    const { embedding, positions, head, finalNorm, layers } = this.weights;
    dispose([embedding, positions, head, finalNorm]);
    for (const layer of layers) layer.dispose();
  }
}

/** Where the batch's labels are predicted; null when that is everywhere. */
function predictorsOf({ predictors, ids }: TokenBatch): Tensor | null {
  return predictors.length === ids.length ? null : tensorOf(predictors, [predictors.length]);
}

/** `[tokens]`: 0, 1, 2, … in each row. */
export function placesInRows(rowLengths: readonly number[]): Int32Array {
  const places = new Int32Array(rowLengths.reduce((sum, length) => sum + length, 0));
  let token = 0;
  for (const length of rowLengths) for (let place = 0; place < length; place++) places[token++] = place;
  return places;
}

/** What is kept of a layer for its backward pass: all that it needs, or the input to compute it from again. */
type KeptLayer = SavedLayer | Pick<SavedLayer, 'input' | 'places'>;

function attendIn(layer: DecoderLayer, attention: BatchAttention, record: boolean): Attend {
  return (qkv) => attention.forward(qkv, layer.attention, record);
}

function forwardKeepingInput(
  layer: DecoderLayer,
  before: Stream,
  attention: BatchAttention,
  places: Tensor | null,
): { stream: Stream; saved: KeptLayer } {
  const input = streamSum(before);
  // With dropout, as the second time; so what is saved is made, and freed.
  const { stream, saved } = layer.forward({ x: input, branch: null }, attendIn(layer, attention, true), true, places);
  const { input: _input, middle: _middle, places: _places, ...rest } = saved!;
  dispose(rest);
  return { stream, saved: { input, places } };
}

/** The same numbers as the first time: dropout is drawn from a seed that has not changed. */
function recomputed(
  layer: DecoderLayer,
  kept: Pick<SavedLayer, 'input' | 'places'>,
  attention: BatchAttention,
): SavedLayer {
  const start: Stream = { x: kept.input, branch: null };
  const { stream, saved } = layer.forward(start, attendIn(layer, attention, true), true, kept.places);
  dispose(stream.branch);
  return saved!;
}
