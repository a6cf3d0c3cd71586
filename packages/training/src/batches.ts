import { type BatchLoss, type Classifier, type Decoder, type FeatureBatch, tokenBatchOf } from '@lorasmith/models';
import { type Examples, exampleCount, type FeatureExamples, type TokenExamples } from '@lorasmith/planning';

/** A micro-batch that its model can be run on. */
export interface Batch {
  /** Tokens read; rows for a classifier. */
  tokens: number;
  /** Forward and backward; the gradients stay with the adapted layers. */
  lossAndGradients(): BatchLoss;
  /** Forward only. */
  loss(): BatchLoss;
}

/** Joins a model with examples of its kind. */
export interface BatchSource {
  count: number;
  /** @param indices examples to put into one micro-batch */
  batch(indices: ArrayLike<number>): Batch;
}

export function batchSource(model: Decoder | Classifier, examples: Examples): BatchSource {
  const count = exampleCount(examples);
  if (examples.kind === 'tokens' && 'rotary' in model) {
    return { count, batch: (indices) => runnable(model, tokenBatch(examples, indices), (batch) => batch.ids.length) };
  }
  if (examples.kind === 'features' && !('rotary' in model)) {
    return {
      count,
      batch: (indices) => runnable(model, featureBatch(examples, indices), (batch) => batch.labels.length),
    };
  }
  throw new Error(`examples of kind ${examples.kind} do not fit the model`);
}

function runnable<Kind>(
  model: { lossAndGradients(batch: Kind): BatchLoss; loss(batch: Kind): BatchLoss },
  batch: Kind,
  tokensOf: (batch: Kind) => number,
): Batch {
  return {
    tokens: tokensOf(batch),
    lossAndGradients: () => model.lossAndGradients(batch),
    loss: () => model.loss(batch),
  };
}

function tokenBatch(examples: TokenExamples, indices: ArrayLike<number>) {
  const { ids, trained, offsets } = examples;
  return tokenBatchOf(
    Array.from(indices, (index) => {
      const [start, end] = [offsets[index]!, offsets[index + 1]!];
      return { ids: ids.subarray(start, end), trained: trained.subarray(start, end) };
    }),
  );
}

function featureBatch(examples: FeatureExamples, indices: ArrayLike<number>): FeatureBatch {
  const { features, width, labels } = examples;
  const chosen = new Float32Array(indices.length * width);
  Array.from(indices, (index, row) => chosen.set(features.subarray(index * width, (index + 1) * width), row * width));
  return { features: chosen, width, labels: Int32Array.from(indices, (index) => labels[index]!) };
}
