import type { DecoderArchitecture } from '@lorasmith/model-folder';
import {
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
import type { DecoderLayer, SavedLayer } from './decoder-layer.js';
import { nextTokenLoss } from './next-token-loss.js';
import { rmsNorm, rmsNormGradient } from './rms-norm.js';
import { Rotary } from './rotary.js';
import { groupRows, type RowGroup } from './row-groups.js';

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

  /** @returns `[tokens, vocab]` float32 logits at every place. For tests and small inputs: nothing is chunked. */
  logits(ids: Int32Array, rowLengths: number[]): Tensor {
    return scope(() => {
      const groups = groupRows(rowLengths, this.rotary);
      const hidden = this.#forward(ids, groups, false).output;
      dispose(groups);
      const { output } = rmsNorm(hidden, this.weights.finalNorm, this.architecture.normEpsilon, this.dtype);
      return cast(matMul(output, this.weights.head, { transposeB: true }), 'float32');
    });
  }

  loss(batch: TokenBatch): BatchLoss {
    return scope(() => {
      const groups = groupRows(batch.rowLengths, this.rotary);
      const hidden = this.#forward(batch.ids, groups, false).output;
      dispose(groups);
      const { lossSum } = this.#headLoss(hidden, batch, false);
      return { lossSum, labels: batch.labels.length, correct: null };
    });
  }

  lossAndGradients(batch: TokenBatch): BatchLoss {
    return scope(() => {
      const groups = groupRows(batch.rowLengths, this.rotary);
      const { output, saved } = this.#forward(batch.ids, groups, true);
      const { lossSum, gradient } = this.#headLoss(output, batch, true);
      dispose(output);
      this.#backward(gradient!, saved, groups);
      dispose(groups);
      return { lossSum, labels: batch.labels.length, correct: null };
    });
  }

  /** @returns `[tokens, hidden]` float32 before the final norm; layers below the lowest trained one save nothing */
  #forward(ids: Int32Array, groups: RowGroup[], record: boolean): { output: Tensor; saved: (SavedLayer | null)[] } {
    const { embedding, layers } = this.weights;
    const lowestTrained = layers.findIndex((layer) => layer.trained);
    let hidden = scope(() => cast(gather(embedding, tensorOf(ids, [ids.length])), 'float32'));
    const saved: (SavedLayer | null)[] = [];
    for (const [index, layer] of layers.entries()) {
      const recordLayer = record && lowestTrained !== -1 && index >= lowestTrained;
      const result = layer.forward(hidden, groups, recordLayer);
      hidden = result.output;
      saved.push(result.saved);
    }
    return { output: hidden, saved };
  }

  /** The loss at the labelled places, and its gradient by the last layer's output `[tokens, hidden]` float32. */
  #headLoss(hidden: Tensor, batch: TokenBatch, record: boolean): { lossSum: number; gradient: Tensor | null } {
    return scope(() => {
      const { finalNorm, head } = this.weights;
      const predictors = tensorOf(batch.predictors, [batch.predictors.length]);
      const labels = tensorOf(batch.labels, [batch.labels.length]);
      const picked = gather(hidden, predictors); // [labels, hidden]
      const normed = rmsNorm(picked, finalNorm, this.architecture.normEpsilon, this.dtype);
      const { lossSum, gradientChunks } = nextTokenLoss(normed.output, labels, head, record);
      if (!record) return { lossSum, gradient: null };
      const normedGradient = concat(gradientChunks, 0);
      dispose(gradientChunks);
      const pickedGradient = rmsNormGradient(normedGradient, picked, finalNorm, normed.inverseRms);
      return { lossSum, gradient: scatter(predictors, pickedGradient, batch.ids.length) };
    });
  }

  #backward(gradient: Tensor, saved: (SavedLayer | null)[], groups: RowGroup[]): void {
    const { layers } = this.weights;
    const lowestTrained = layers.findIndex((layer) => layer.trained);
    let current: Tensor | null = gradient;
    for (let index = layers.length - 1; index >= 0 && current !== null; index--) {
      const own = saved[index];
      if (own === null || own === undefined) break;
      current = layers[index]!.backward(current, own, groups, index > lowestTrained);
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
