import type { StepCounts } from './count-steps.js';
import type { Examples } from './example-file/examples.js';
import { loadOf } from './objectives/objectives.js';
import { type OrderedJob, rowOrderOf } from './row-order.js';

/** The tokens that all steps of a job read: those of its complete epochs, and of the rows that an incomplete last one begins with. */
export function tokensOfSteps(
  examples: Pick<Examples, 'kind' | 'count' | 'tokens' | 'lengthOf'>,
  job: OrderedJob,
  { perEpoch, total }: StepCounts,
): number {
  const epochs = Math.floor(total / perEpoch);
  const order = rowOrderOf(examples, job);
  let tokens = epochs * examples.tokens * loadOf(examples, job.objective).updates;
  for (let step = epochs * perEpoch; step < total; step++) {
    for (const microBatch of order.rowsOf(step).microBatches) {
      for (const index of microBatch) tokens += examples.lengthOf(index);
    }
  }
  return tokens;
}
