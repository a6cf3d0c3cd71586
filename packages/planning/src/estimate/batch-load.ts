import type { TrainingSettings } from '@lorasmith/contracts';
import type { StepCounts } from '../count-steps.js';
import type { Examples } from '../objectives/examples.js';
import { RowOrder } from '../row-order.js';

/** How much a job's micro-batches hold: the largest decides memory, the sums decide time. */
export interface BatchLoad {
  /** Tokens (rows, for a classifier) of the largest micro-batch. */
  mostTokens: number;
  /** Labels of the micro-batch that has the most. */
  mostLabels: number;
  /** Length of the longest row. */
  longestRow: number;
  /** Means per step, over the steps that were read: */
  tokensPerStep: number;
  labelsPerStep: number;
  /** Sum of the squared row lengths: what attention grows with. */
  squaresPerStep: number;
  microBatchesPerStep: number;
}

/** The sizes that the memory of a pass depends on. */
export type PassLoad = Pick<BatchLoad, 'mostTokens' | 'mostLabels' | 'longestRow'>;

/** A job may have millions of steps. The batches of this many, or of this many examples, represent the others. */
const MOST_STEPS = 20_000;
const MOST_EXAMPLES = 500_000;

/** The most that a micro-batch of an evaluation holds: the examples in their order. */
export function evaluationLoad(examples: Examples, batchSize: number): PassLoad {
  const load = { mostTokens: 0, mostLabels: 0, longestRow: 0 };
  const most = Math.min(examples.count, MOST_EXAMPLES);
  for (let first = 0; first < most; first += batchSize) {
    let [tokens, labels] = [0, 0];
    for (let index = first; index < Math.min(first + batchSize, most); index++) {
      const length = examples.lengthOf(index);
      tokens += length;
      labels += examples.labelsOf(index);
      load.longestRow = Math.max(load.longestRow, length);
    }
    load.mostTokens = Math.max(load.mostTokens, tokens);
    load.mostLabels = Math.max(load.mostLabels, labels);
  }
  return load;
}

/** Reads the same micro-batches that the job will train on. */
export function batchLoad(examples: Examples, settings: TrainingSettings, steps: StepCounts): BatchLoad {
  const order = new RowOrder(examples.count, {
    batchSize: settings.batch_size,
    accumulation: settings.gradient_accumulation_steps,
    seed: settings.seed,
  });
  const load = { mostTokens: 0, mostLabels: 0, longestRow: 0 };
  const sums = { tokens: 0, labels: 0, squares: 0, microBatches: 0 };
  // The two of a pair are taken to be equally long.
  const sequences = examples.kind === 'preference' ? 2 : 1;
  let examplesRead = 0;
  let stepsRead = 0;
  while (stepsRead < Math.min(steps.total, MOST_STEPS) && examplesRead < MOST_EXAMPLES) {
    for (const microBatch of order.rowsOf(stepsRead).microBatches) {
      let batchTokens = 0;
      let batchLabels = 0;
      for (const index of microBatch) {
        const length = examples.lengthOf(index);
        batchTokens += length;
        batchLabels += examples.labelsOf(index);
        sums.squares += length ** 2 / sequences;
        load.longestRow = Math.max(load.longestRow, length);
      }
      load.mostTokens = Math.max(load.mostTokens, batchTokens);
      load.mostLabels = Math.max(load.mostLabels, batchLabels);
      sums.tokens += batchTokens;
      sums.labels += batchLabels;
      sums.microBatches += 1;
      examplesRead += microBatch.length;
    }
    stepsRead++;
  }
  return {
    ...load,
    tokensPerStep: sums.tokens / stepsRead,
    labelsPerStep: sums.labels / stepsRead,
    squaresPerStep: sums.squares / stepsRead,
    microBatchesPerStep: sums.microBatches / stepsRead,
  };
}
