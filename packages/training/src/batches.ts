import { type BaseModel, type FeatureBatch, tokenBatchOf } from '@lorasmith/models';
import type { Examples, FeatureExamples } from '@lorasmith/planning';
import { Classification } from './objectives/classification/classification.js';
import { NextToken } from './objectives/next-token/next-token.js';
import type { BatchLoss, Objective, PassOptions } from './objectives/objective.js';

/** A micro-batch that its model can be run on. */
export interface Batch {
  /** Tokens read; rows for a classifier. */
  tokens: number;
  /** Forward and backward; the adapters take up their gradients. */
  lossAndGradients(options: PassOptions): BatchLoss;
  /** Forward only. */
  loss(options: PassOptions): BatchLoss;
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
  /** See {@link Objective}. */
  metrics: Objective<never>['metrics'];
}

export function batchSource(model: BaseModel, examples: Examples): BatchSource {
  const { count, longest } = examples;
  const objective = objectiveOf(model);
  const metrics = (losses: readonly BatchLoss[]) => objective.metrics(losses);
  if (examples.kind === 'next-token' && objective.kind === 'next-token') {
    const sequences = (indices: ArrayLike<number>) => Array.from(indices, (index) => examples.sequence(index));
    return {
      count,
      longest,
      span: (indices) => longestOf(examples, indices),
      batch: (indices, span) => {
        const batch = tokenBatchOf(sequences(indices), span);
        return runnable(objective, batch, batch.ids.length);
      },
      metrics,
    };
  }
  if (examples.kind === 'classification' && objective.kind === 'classification') {
    return {
      count,
      longest,
      span: () => 1,
      batch: (indices) => runnable(objective, featureBatch(examples, indices), indices.length),
      metrics,
    };
  }
  throw new Error(`examples of kind ${examples.kind} do not fit the model`);
}

/** The one objective there is for a kind of model. */
function objectiveOf(model: BaseModel): NextToken | Classification {
  return model.kind === 'decoder' ? new NextToken(model) : new Classification(model);
}

/** A batch with the objective it is run for. */
export function runnable<Kind>(objective: Objective<Kind>, batch: Kind, tokens: number): Batch {
  return {
    tokens,
    lossAndGradients: (options) => objective.lossAndGradients(batch, options),
    loss: (options) => objective.loss(batch, options),
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
