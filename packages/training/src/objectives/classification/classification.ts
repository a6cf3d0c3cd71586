import type { Evaluation } from '@lorasmith/contracts';
import type { Classifier, FeatureBatch } from '@lorasmith/models';
import type { FeatureExamples } from '@lorasmith/planning';
import {
  argMax,
  kernelsFor,
  scope,
  sum,
  type Tensor,
  tensorOf,
  toFloat32Array,
  toInt32Array,
  toNumber,
} from '@lorasmith/tensor';
import { type BatchLoss, meanLoss, type Objective, type PassOptions } from '../objective.js';

/** Cross entropy of each row's class. */
export class Classification implements Objective<FeatureBatch, FeatureExamples> {
  readonly kind = 'classification';
  readonly #model: Classifier;

  constructor(model: Classifier) {
    this.#model = model;
  }

  batch(examples: FeatureExamples, indices: ArrayLike<number>): FeatureBatch {
    const { width } = examples;
    const features = new Float32Array(indices.length * width);
    const labels = new Int32Array(indices.length);
    for (let i = 0; i < indices.length; i++) {
      const row = examples.row(indices[i]!);
      features.set(row.features, i * width);
      labels[i] = row.label;
    }
    return { features, width, labels };
  }

  loss(batch: FeatureBatch, { adapters }: PassOptions): BatchLoss {
    return scope(() => this.#loss(this.#model.logits(batch, adapters), batch).result);
  }

  lossAndGradients(batch: FeatureBatch, { adapters }: PassOptions): BatchLoss {
    return scope(() => {
      const { logits, saved } = this.#model.forward(batch, { adapters, record: true, recompute: false });
      const { result, gradient } = this.#loss(logits, batch);
      this.#model.backward(gradient, saved!);
      return result;
    });
  }

  rowLosses(batch: FeatureBatch, { adapters }: PassOptions): Float32Array {
    return scope(() => {
      const labels = tensorOf(batch.labels, [batch.labels.length]);
      return toFloat32Array(kernelsFor('float32').crossEntropy(this.#model.logits(batch, adapters), labels).loss);
    });
  }

  #loss(logits: Tensor, batch: FeatureBatch): { result: BatchLoss; gradient: Tensor } {
    const rows = batch.labels.length;
    const { loss, gradient } = kernelsFor(logits.dtype).crossEntropy(logits, tensorOf(batch.labels, [rows]));
    const predicted = toInt32Array(argMax(logits));
    const correct = predicted.reduce((count, label, row) => count + (label === batch.labels[row] ? 1 : 0), 0);
    return { result: { lossSum: toNumber(sum(loss, 'all')), normaliser: rows, correct }, gradient };
  }

  metrics(losses: readonly BatchLoss[]): Pick<Evaluation, 'loss' | 'perplexity' | 'accuracy'> {
    const correct = losses.reduce((total, loss) => total + (loss.correct ?? 0), 0);
    const rows = losses.reduce((total, loss) => total + loss.normaliser, 0);
    return { loss: meanLoss(losses), perplexity: null, accuracy: correct / rows };
  }
}
