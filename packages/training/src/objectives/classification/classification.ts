import type { Evaluation } from '@lorasmith/contracts';
import type { Classifier, FeatureBatch } from '@lorasmith/models';
import type { FeatureExamples } from '@lorasmith/planning';
import { argMax, kernelsFor, scope, sum, type Tensor, tensorOf, toFloat32Array, toInt32Array } from '@lorasmith/tensor';
import {
  type BatchLoss,
  meanLoss,
  type Objective,
  type PassLoss,
  type PassOptions,
  takeLossSum,
} from '../objective.js';

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
    return scope(() => {
      const logits = this.#model.logits(batch, adapters);
      const predicted = toInt32Array(argMax(logits));
      const correct = predicted.reduce((count, label, row) => count + (label === batch.labels[row] ? 1 : 0), 0);
      return { lossSum: takeLossSum(this.#loss(logits, batch).losses), normaliser: batch.labels.length, correct };
    });
  }

  lossAndGradients(batch: FeatureBatch, { adapters }: PassOptions): PassLoss {
    return scope(() => {
      const { logits, saved } = this.#model.forward(batch, { adapters, record: true, recompute: false });
      const { losses, gradient } = this.#loss(logits, batch);
      this.#model.backward(gradient, saved!);
      return { losses, normaliser: batch.labels.length };
    });
  }

  rowLosses(batch: FeatureBatch, { adapters }: PassOptions): Float32Array {
    return scope(() => {
      const labels = tensorOf(batch.labels, [batch.labels.length]);
      return toFloat32Array(kernelsFor('float32').crossEntropy(this.#model.logits(batch, adapters), labels).loss);
    });
  }

  /** @returns losses `[1]`, their sum */
  #loss(logits: Tensor, { labels }: FeatureBatch): { losses: Tensor; gradient: Tensor } {
    const { loss, gradient } = kernelsFor(logits.dtype).crossEntropy(logits, tensorOf(labels, [labels.length]));
    return { losses: sum(loss, 'all', { keepDims: true }), gradient };
  }

  metrics(losses: readonly BatchLoss[]): Pick<Evaluation, 'loss' | 'perplexity' | 'accuracy'> {
    const correct = losses.reduce((total, loss) => total + (loss.correct ?? 0), 0);
    const rows = losses.reduce((total, loss) => total + loss.normaliser, 0);
    return { loss: meanLoss(losses), perplexity: null, accuracy: correct / rows };
  }
}
