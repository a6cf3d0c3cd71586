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
  const count = exampleCount(examples);
  if (examples.kind === 'tokens' && 'rotary' in model) {
    return {
      count,
      span: (indices) => longestOf(examples, indices),
      batch: (indices, span) => runnable(model, tokenBatch(examples, indices, span), (batch) => batch.ids.length),
    };
  }
  if (examples.kind === 'features' && !('rotary' in model)) {
    return {
      count,
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

function longestOf({ offsets }: TokenExamples, indices: ArrayLike<number>): number {
  let longest = 0;
  for (let i = 0; i < indices.length; i++) {
    const index = indices[i]!;
    longest = Math.max(longest, offsets[index + 1]! - offsets[index]!);
  }
  return longest;
}

function tokenBatch(examples: TokenExamples, indices: ArrayLike<number>, span: number) {
  const { ids, trained, offsets } = examples;
  return tokenBatchOf(
    Array.from(indices, (index) => {
      const [start, end] = [offsets[index]!, offsets[index + 1]!];
      return { ids: ids.subarray(start, end), trained: trained.subarray(start, end) };
    }),
    span,
  );
}

function featureBatch(examples: FeatureExamples, indices: ArrayLike<number>): FeatureBatch {
  const { features, width, labels } = examples;
  const chosen = new Float32Array(indices.length * width);
  Array.from(indices, (index, row) => chosen.set(features.subarray(index * width, (index + 1) * width), row * width));
  return { features: chosen, width, labels: Int32Array.from(indices, (index) => labels[index]!) };
}
