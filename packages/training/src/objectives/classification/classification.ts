import type { Evaluation } from '@lorasmith/contracts';
import { type Classifier, type FeatureBatch, type JoinedBatch, rangesOf } from '@lorasmith/models';
import type { FeatureExamples } from '@lorasmith/planning';
import { type CrossEntropy, scope, type Tensor, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import {
  type BatchLoss,
  lossAndAccuracy,
  type Objective,
  type PassLoss,
  type PassOptions,
  takeBatchLoss,
} from '../objective.js';
import { ofKind, type TrainedObjective } from '../trained-objective.js';

/** Cross entropy of each row's class. */
export class Classification implements Objective<FeatureBatch, FeatureExamples> {
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

  tokensIn({ labels }: FeatureBatch): number {
    return labels.length;
  }

  computedIn({ labels }: FeatureBatch): number {
    return labels.length;
  }

  labelsIn({ labels }: FeatureBatch): number {
    return labels.length;
  }

  join(batches: readonly FeatureBatch[]): JoinedBatch<FeatureBatch> {
    const rows = rangesOf(batches.map(({ labels }) => labels.length));
    const { width } = batches[0]!;
    const features = new Float32Array(batches.reduce((size, batch) => size + batch.features.length, 0));
    for (const [i, { first }] of rows.entries()) features.set(batches[i]!.features, first * width);
    const labels = Int32Array.from(batches.flatMap((batch) => [...batch.labels]));
    return { batch: { features, width, labels }, tokens: rows, labels: rows };
  }

  loss(batch: FeatureBatch, { adapters }: PassOptions): BatchLoss {
    return scope(() => {
      const { loss: losses, correct } = this.#crossEntropy(this.#model.logits(batch, adapters), batch);
      return takeBatchLoss({ losses, correct, normaliser: batch.labels.length });
    });
  }

  lossAndGradients(batch: FeatureBatch, { adapters }: PassOptions): PassLoss {
    return scope(() => {
      const { logits, saved } = this.#model.forward(batch, { adapters, record: true, recomputedLayers: 0 });
      const { loss: losses, correct, gradient } = this.#crossEntropy(logits, batch);
      this.#model.backward(gradient, saved!);
      return { losses, correct, normaliser: batch.labels.length };
    });
  }

  rowLosses(batch: FeatureBatch, { adapters }: PassOptions): Float32Array {
    return scope(() => toFloat32Array(this.#crossEntropy(this.#model.logits(batch, adapters), batch).loss));
  }

  metrics(losses: readonly BatchLoss[]): Pick<Evaluation, 'loss' | 'perplexity' | 'accuracy'> {
    return { ...lossAndAccuracy(losses), perplexity: null };
  }

  /** @param logits `[rows, classes]` */
  #crossEntropy(logits: Tensor, { labels }: FeatureBatch): CrossEntropy {
    return this.#model.kernels.of(logits.dtype).crossEntropy(logits, tensorOf(labels, [labels.length]));
  }
}

/** Rows of features in a run. */
export const classification: TrainedObjective<FeatureExamples> = {
  create: (base) => new Classification(ofKind(base, 'classifier')),
  prepare: async () => ({ examplesOf: (examples) => examples }),
};
