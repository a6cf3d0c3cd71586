import { type BatchLoss, type Classifier, type Decoder, type FeatureBatch, tokenBatchOf } from '@lorasmith/models';
import type { Examples, FeatureExamples } from '@lorasmith/planning';

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
  /** Tokens of the longest of all examples; 1 for a classifier's. */
  longest: number;
  /** Tokens of the longest of these examples; 1 for a classifier's. */
  span(indices: ArrayLike<number>): number;
  /**
   * @param indices examples to put into one micro-batch
   * @param span that of all examples whose results must not depend on how they are cut into micro-batches: a rope that
   * depends on the length is made for it
   */
  batch(indices: ArrayLike<number>, span: number): Batch;
}

export function batchSource(model: Decoder | Classifier, examples: Examples): BatchSource {
  const { count, longest } = examples;
  if (examples.kind === 'next-token' && 'rotary' in model) {
    const sequences = (indices: ArrayLike<number>) => Array.from(indices, (index) => examples.sequence(index));
    return {
      count,
      longest,
      span: (indices) => longestOf(examples, indices),
      batch: (indices, span) => runnable(model, tokenBatchOf(sequences(indices), span), (batch) => batch.ids.length),
    };
  }
  if (examples.kind === 'classification' && !('rotary' in model)) {
    return {
      count,
      longest,
      span: () => 1,
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

function longestOf(examples: Examples, indices: ArrayLike<number>): number {
  let longest = 0;
  for (let i = 0; i < indices.length; i++) longest = Math.max(longest, examples.lengthOf(indices[i]!));
  return longest;
}

function featureBatch(examples: FeatureExamples, indices: ArrayLike<number>): FeatureBatch {
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
