import type { Evaluation } from '@lorasmith/contracts';
import type { ActingAdapter, JoinedBatch } from '@lorasmith/models';
import { dispose, type Tensor, toFloat32Array } from '@lorasmith/tensor';
import type { InTimeSlice } from '../shared-pass/engine-time.js';
import type { JudgedAnswer } from './group-relative/group-loss.js';

/**
 * The objective that a training minimizes: the loss, its gradient, what sums of both are divided by, and the metrics of an evaluation.
 * `Of` are examples with what their loss needs of them; a `Figure` is the result of a pass for what a loss is of, such as a pair of answers.
 * How rows become examples is the other half, in packages/planning.
 */
export interface Objective<Batch, Of = unknown, Figure = unknown> {
  /** Absent in objectives whose batches share nothing. @throws ProductError `cancelled` */
  context?(examples: Of, batches: readonly ArrayLike<number>[], run: ForwardRun): Promise<StepContext>;
  /** Reads some examples into one batch. */
  batch(examples: Of, indices: ArrayLike<number>, context: StepContext): Batch;
  /** Tokens of the rows of a batch; rows for a classifier. */
  tokensIn(batch: Batch): number;
  /** Tokens that a pass over a batch computes: those that rows share once. */
  computedIn(batch: Batch): number;
  /** Targets of the loss in a batch. */
  labelsIn(batch: Batch): number;
  /** One batch of several. */
  join(batches: readonly Batch[]): JoinedBatch<Batch>;
  /** Forward only. */
  loss(batch: Batch, options: PassOptions): BatchLoss<Figure>;
  /** Forward and backward: the adapters take up the gradient of the summed loss. */
  lossAndGradients(batch: Batch, options: PassOptions): PassLoss<Figure>;
  /** The loss of each row, summed over its labels, in the order the rows were given in. */
  rowLosses(batch: Batch, options: PassOptions): Float32Array;
  /** The metrics of an evaluation, from the losses of its batches. */
  metrics(losses: readonly BatchLoss<Figure>[]): EvaluationMetrics;
  /** The metrics of a step in addition to loss and accuracy; absent without others. @param figures of one job */
  ownMetrics?(figures: readonly Figure[]): OwnMetrics;
}

/** The adapters and the recompute of a pass. */
export interface PassOptions {
  /** The adapters that act on the base, and on which tokens; none: the base alone. */
  adapters: readonly ActingAdapter[];
  /** See Pass in models. @defaultValue 0 */
  recomputedLayers?: number;
}

/**
 * The loss of a batch whose gradient was computed. It is still on the device: reading it waits for the whole pass. An objective of
 * preferences or rewards has one loss for each pair, or each answer, instead of one for each label.
 */
export interface PassLoss<Figure = unknown> {
  /** `[labels]` float32: the loss of each label, in the order of the batch. The caller's to free. */
  losses: Tensor;
  /** `[labels]` float32: 1 for each label that the model ranks first, else 0. The caller's to free. */
  correct: Tensor;
  /** See {@link BatchLoss}. */
  normaliser: number;
  /** See {@link BatchLoss}. */
  figures?: readonly Figure[];
}

/** The result of a loss over a batch. */
export interface BatchLoss<Figure = unknown> {
  /** Summed over what the normaliser counts. */
  lossSum: number;
  /** The divisor of sums of losses and gradients: trained tokens, rows of a classifier, pairs of answers, answers with a label, or sampled ones. */
  normaliser: number;
  /** Labels the model ranks first; of preferences, see `isRight` of PreferenceFigures; sampled answers that ended by themselves. */
  correct: number;
  /** The figures of each pair of answers, or each answer; absent in other objectives. */
  figures?: readonly Figure[];
}

/** The metrics that some objectives have in addition to loss and accuracy. */
export type OwnMetrics = Pick<Evaluation, 'preference' | 'group'>;

export type EvaluationMetrics = Pick<Evaluation, 'loss' | 'perplexity' | 'accuracy'> & OwnMetrics;

/** The model as it is, for passes that only read it. */
export interface ForwardRun {
  adapters: readonly ActingAdapter[];
  passes: { inEngineCall: InTimeSlice };
  /** The step, from 0, that is about to be done; null: an evaluation. @defaultValue null */
  step?: number | null;
  /** The adapters of the reference; none: the base alone. @defaultValue none */
  reference?: readonly ActingAdapter[];
}

/** The facts that batches share which are averaged together: those of a step, or of an evaluation. */
export interface StepContext {
  /** The share of a token in a mean that is weighed against a mean over pairs: pairs by tokens of all these examples. */
  likelihoodShare: number;
  /** An estimate of how much the model differs from its reference, in nats; 0 for a loss that does not ask. */
  divergence: number;
  /** The graded answers to each prompt, by the index of its example; absent in other objectives. */
  groups?: ReadonlyMap<number, readonly JudgedAnswer[]>;
}

/** The sums of a pass. Waits for it, and frees its tensors. */
export function takeBatchLoss<Figure>({ losses, correct, ...rest }: PassLoss<Figure>): BatchLoss<Figure> {
  return { lossSum: takeSum(losses), correct: takeSum(correct), ...rest };
}

/** {@link sumOf} numbers on the device. Waits for them, and frees them. */
function takeSum(numbers: Tensor): number {
  const sum = sumOf(toFloat32Array(numbers));
  dispose(numbers);
  return sum;
}

/** The sum of some numbers, in float64 and in their order. */
export function sumOf(numbers: Float32Array): number {
  return numbers.reduce((sum, number) => sum + number, 0);
}

/** Mean loss and share of correct labels, over what the normalisers count. */
export function lossAndAccuracy(losses: readonly BatchLoss[]): Pick<Evaluation, 'loss' | 'accuracy'> {
  const total = { lossSum: 0, correct: 0, normaliser: 0 };
  for (const { lossSum, correct, normaliser } of losses) {
    total.lossSum += lossSum;
    total.correct += correct;
    total.normaliser += normaliser;
  }
  return { loss: total.lossSum / total.normaliser, accuracy: total.correct / total.normaliser };
}
