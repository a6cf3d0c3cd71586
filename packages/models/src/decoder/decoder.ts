import type { DecoderArchitecture } from '@lorasmith/model-folder';
import {
  alias,
  cast,
  concat,
  dispose,
  type FloatDType,
  gather,
  matMul,
  scatter,
  scope,
  type Tensor,
  tensorOf,
} from '@lorasmith/tensor';
import type { ProjectionSlot } from '../projection.js';
import type { TokenBatch } from '../token-batch.js';
import type { BatchLoss, TrainableModel } from '../trainable-model.js';
import { attention, layoutRows, type RowLayout } from './attention.js';
import { type DecoderLayer, type SavedLayer, type Stream, streamSum } from './decoder-layer.js';
import { nextTokenLoss } from './next-token-loss.js';
import { rmsNorm, rmsNormGradient, type StreamGradient } from './rms-norm.js';
import { Rotary } from './rotary.js';

export interface DecoderWeights {
  /** `[vocab, hidden]` in the model's dtype */
  embedding: Tensor;
  layers: DecoderLayer[];
  /** `[hidden]` float32 */
  finalNorm: Tensor;
  /** `[vocab, hidden]`; the embedding itself when tied */
  head: Tensor;
}

/** A decoder-only language model with frozen weights. */
export class Decoder implements TrainableModel<TokenBatch> {
  readonly architecture: DecoderArchitecture;
  readonly dtype: FloatDType;
  readonly weights: DecoderWeights;
  readonly rotary: Rotary;

  constructor(architecture: DecoderArchitecture, dtype: FloatDType, weights: DecoderWeights) {
    this.architecture = architecture;
    this.dtype = dtype;
    this.weights = weights;
    this.rotary = new Rotary(architecture);
  }

  get slots(): ProjectionSlot[] {
    return this.weights.layers.flatMap((layer) => layer.slots);
  }

  /** @returns `[tokens, hidden]` float32 */
  embed(ids: Int32Array): Tensor {
    return scope(() => cast(gather(this.weights.embedding, tensorOf(ids, [ids.length])), 'float32'));
  }

  /**
   * @param hidden `[tokens, hidden]` float32, the last layer's output
   * @returns `[tokens, vocab]` float32
   */
  headLogits(hidden: Tensor): Tensor {
    return scope(() => {
      const { output } = rmsNorm(hidden, this.weights.finalNorm, this.architecture.normEpsilon, this.dtype);
      return cast(matMul(output, this.weights.head, { transposeB: true }), 'float32');
    });
  }

  /** @returns `[tokens, vocab]` float32 logits at every place. For tests and small inputs: nothing is chunked. */
  logits(ids: Int32Array, rowLengths: number[]): Tensor {
    return scope(() => {
      const layout = layoutRows(rowLengths, this.rotary);
      return this.headLogits(streamSum(this.#forward(ids, layout, false).stream));
    });
  }

  loss(batch: TokenBatch): BatchLoss {
    return scope(() => {
      const layout = layoutRows(batch.rowLengths, this.rotary);
      const { stream } = this.#forward(batch.ids, layout, false);
      const { lossSum } = this.#headLoss(stream, batch, false);
      return { lossSum, labels: batch.labels.length, correct: null };
    });
  }

  lossAndGradients(batch: TokenBatch): BatchLoss {
    return scope(() => {
      const layout = layoutRows(batch.rowLengths, this.rotary);
      const { stream, saved } = this.#forward(batch.ids, layout, true);
      const { lossSum, gradient } = this.#headLoss(stream, batch, true);
      dispose(stream.branch);
      this.#backward(gradient!, saved, layout);
      return { lossSum, labels: batch.labels.length, correct: null };
    });
  }

  /** Layers below the lowest trained one save nothing. */
  #forward(ids: Int32Array, layout: RowLayout, record: boolean): { stream: Stream; saved: (SavedLayer | null)[] } {
    const { layers } = this.weights;
    const lowestTrained = layers.findIndex((layer) => layer.trained);
    let stream: Stream = { x: this.embed(ids), branch: null };
    const saved: (SavedLayer | null)[] = [];
    for (const [index, layer] of layers.entries()) {
      const recordLayer = record && lowestTrained !== -1 && index >= lowestTrained;
      const attend = (qkv: Tensor) => attention(qkv, layout, layer.attention, recordLayer);
      const before = stream;
      const result = layer.forward(before, attend, recordLayer);
      stream = result.stream;
      saved.push(result.saved);
      dispose(before.branch);
      const beforeIsSaved = saved[index - 1]?.middle === before.x || result.saved?.input === before.x;
      if (!beforeIsSaved) dispose(before.x);
    }
    return { stream, saved };
  }

  /** The loss at the labelled places, and its gradient by the stream after the last layer. */
  #headLoss(stream: Stream, batch: TokenBatch, record: boolean): { lossSum: number; gradient: StreamGradient | null } {
    return scope(() => {
      const { finalNorm, head } = this.weights;
      const predictors = tensorOf(batch.predictors, [batch.predictors.length]);
      const labels = tensorOf(batch.labels, [batch.labels.length]);
      const { x, branch } = stream;
      const picked = streamSum({ x: gather(x, predictors), branch: branch && gather(branch, predictors) }); // [labels, hidden]
      const normed = rmsNorm(picked, finalNorm, this.architecture.normEpsilon, this.dtype);
      const { lossSum, gradientChunks } = nextTokenLoss(normed.output, labels, head, record);
      if (!record) return { lossSum, gradient: null };
      const normedGradient = concat(gradientChunks, 0);
      dispose(gradientChunks);
      const { exact } = rmsNormGradient(normedGradient, picked, finalNorm, normed.inverseRms, null);
      const everywhere = scatter(predictors, exact, batch.ids.length); // [tokens, hidden]
      return { lossSum, gradient: { exact: everywhere, rounded: cast(alias(everywhere), this.dtype) } };
    });
  }

  #backward(gradient: StreamGradient, saved: (SavedLayer | null)[], layout: RowLayout): void {
    const { layers } = this.weights;
    const lowestTrained = layers.findIndex((layer) => layer.trained);
    let current: StreamGradient | null = gradient;
    for (let index = layers.length - 1; index >= 0 && current !== null; index--) {
      const own = saved[index];
      if (own === null || own === undefined) break;
      current = layers[index]!.backward(current, own, layout, index > lowestTrained);
    }
    dispose(current);
  }

  dispose(): void {
    dispose([this.weights.embedding, this.weights.head, this.weights.finalNorm]);
    for (const layer of this.weights.layers) {
      dispose([layer.weights.attentionNorm, layer.weights.mlpNorm]);
      for (const slot of layer.slots) dispose([slot.frozen.weight, slot.frozen.bias]);
    }
  }
}
