import type { Evaluation } from '@lorasmith/contracts';
import type { ActingAdapter, JoinedBatch } from '@lorasmith/models';
import type { Examples } from '@lorasmith/planning';
import { dispose, type Tensor, toFloat32Array } from '@lorasmith/tensor';

/** The loss of a batch whose gradient was computed. It is still on the device: reading it waits for the whole pass. */
export interface PassLoss {
  /** `[labels]` float32: the loss of each label, in the order of the batch. The caller's to free. */
  losses: Tensor;
  /** See {@link BatchLoss}. */
  normaliser: number;
}

/** What a loss over a batch says. */
export interface BatchLoss {
  /** Summed over what the normaliser counts. */
  lossSum: number;
  /** What sums of losses and gradients are divided by: trained tokens, or rows of a classifier. */
  normaliser: number;
  /** Labels the model ranks first; null where that is not counted. */
  correct: number | null;
}

/** How the model is run. */
export interface PassOptions {
  /** What acts on the base, and on which tokens; none: the base alone. */
  adapters: readonly ActingAdapter[];
  /** See Pass in models. @defaultValue false */
  recompute?: boolean;
}

/**
 * What a training minimizes: the loss, its gradient, what sums of both are divided by, and the metrics of an evaluation.
 * How rows become examples is the other half, in packages/planning under the same `kind`.
 */
export interface Objective<Batch, Of extends Examples = Examples> {
  readonly kind: Of['kind'];
  /**
   * Reads some examples into one batch.
   * @param span tokens of the longest example of the step or evaluation. A rope that depends on the length is made for it,
   * so that results do not depend on the division into batches.
   */
  batch(examples: Of, indices: ArrayLike<number>, span: number): Batch;
  /** Batches of one class can be joined: a rope that depends on the length is the same for them. */
  spanClass(batch: Batch): number;
  /** One batch of several, all of one {@link spanClass}. */
  join(batches: readonly Batch[]): JoinedBatch<Batch>;
  /** Forward only. */
  loss(batch: Batch, options: PassOptions): BatchLoss;
  /** Forward and backward: the adapters take up the gradient of the summed loss. */
  lossAndGradients(batch: Batch, options: PassOptions): PassLoss;
  /** The loss of each row, summed over its labels, in the order the rows were given in. */
  rowLosses(batch: Batch, options: PassOptions): Float32Array;
  /** Of an evaluation, from the losses of its batches. */
  metrics(losses: readonly BatchLoss[]): Pick<Evaluation, 'loss' | 'perplexity' | 'accuracy'>;
}

/** The sum of some losses, in float64 and in their order. */
export function sumOf(losses: Float32Array): number {
  return losses.reduce((sum, loss) => sum + loss, 0);
}

/** {@link sumOf} losses on the device. Waits for them, and frees them. */
export function takeLossSum(losses: Tensor): number {
  const sum = sumOf(toFloat32Array(losses));
  dispose(losses);
  return sum;
}

/** Mean of the losses over what their normalisers count. */
export function meanLoss(losses: readonly BatchLoss[]): number {
  let lossSum = 0;
  let normaliser = 0;
  for (const loss of losses) {
    lossSum += loss.lossSum;
    normaliser += loss.normaliser;
  }
  return lossSum / normaliser;
}
