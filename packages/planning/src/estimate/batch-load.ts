import type { TrainingSettings } from '@lorasmith/contracts';
import type { StepCounts } from '../count-steps.js';
import { type Examples, exampleCount } from '../examples.js';
import { RowOrder } from '../row-order.js';

/** How much a job's micro-batches hold: the largest decides memory, the sums decide time. */
export interface BatchLoad {
  /** Tokens (rows, for a classifier) of the largest micro-batch. */
  mostTokens: number;
  /** Labels of the micro-batch that has the most. */
  mostLabels: number;
  /** Length of the longest row. */
  longestRow: number;
  /** Over the steps looked at, per step: */
  tokensPerStep: number;
  labelsPerStep: number;
  /** Sum of the squared row lengths: what attention grows with. */
  squaresPerStep: number;
  microBatchesPerStep: number;
}

/** A job may have millions of steps; the batches of so many tell what the others will be like. */
const MOST_STEPS = 20_000;

/** Looks at the very micro-batches that the job will train on. */
export function batchLoad(examples: Examples, settings: TrainingSettings, steps: StepCounts): BatchLoad {
  const count = exampleCount(examples);
  const order = new RowOrder(count, {
    batchSize: settings.batch_size,
    accumulation: settings.gradient_accumulation_steps,
    seed: settings.seed,
  });
  const labels = labelCounts(examples);
  const looked = Math.min(steps.total, MOST_STEPS);
  const load = { mostTokens: 0, mostLabels: 0, longestRow: 0 };
  const sums = { tokens: 0, labels: 0, squares: 0, microBatches: 0 };
  for (let step = 0; step < looked; step++) {
    for (const microBatch of order.rowsOf(step).microBatches) {
      let batchTokens = 0;
      let batchLabels = 0;
      for (const index of microBatch) {
        const length = lengthOf(examples, index);
        batchTokens += length;
        batchLabels += labels[index]!;
        sums.squares += length ** 2;
        load.longestRow = Math.max(load.longestRow, length);
      }
      load.mostTokens = Math.max(load.mostTokens, batchTokens);
      load.mostLabels = Math.max(load.mostLabels, batchLabels);
      sums.tokens += batchTokens;
      sums.labels += batchLabels;
      sums.microBatches += 1;
    }
  }
  return {
    ...load,
    tokensPerStep: sums.tokens / looked,
    labelsPerStep: sums.labels / looked,
    squaresPerStep: sums.squares / looked,
    microBatchesPerStep: sums.microBatches / looked,
  };
}

function lengthOf(examples: Examples, index: number): number {
  return examples.kind === 'tokens' ? examples.offsets[index + 1]! - examples.offsets[index]! : 1;
}

function labelCounts(examples: Examples): Int32Array {
  const counts = new Int32Array(exampleCount(examples));
  if (examples.kind === 'features') return counts.fill(1);
  for (let index = 0; index < counts.length; index++) {
    let labels = 0;
    for (let at = examples.offsets[index]!; at < examples.offsets[index + 1]!; at++) labels += examples.trained[at]!;
    counts[index] = labels;
  }
  return counts;
}
