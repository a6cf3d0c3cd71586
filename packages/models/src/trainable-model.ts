import type { FloatDType } from '@lorasmith/tensor';
import type { ProjectionSlot } from './projection.js';

/** What a loss over a batch says. */
export interface BatchLoss {
  /** Summed over the labels. */
  lossSum: number;
  labels: number;
  /** Labels the model ranks first; null where that is not counted. */
  correct: number | null;
}

/** A base model in memory, as training sees it. */
export interface TrainableModel<Batch> {
  readonly dtype: FloatDType;
  /** Every place that can be adapted. */
  readonly slots: readonly ProjectionSlot[];
  /** Forward only. */
  loss(batch: Batch): BatchLoss;
  /** Forward and backward: the projections that are trained take up the gradient of the summed loss. */
  lossAndGradients(batch: Batch): BatchLoss;
  /** Frees the weights. */
  dispose(): void;
}
