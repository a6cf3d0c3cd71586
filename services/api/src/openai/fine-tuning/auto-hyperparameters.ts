import type { FineTuningHyperparameters } from '@lorasmith/contracts';

/** An epoch of a small file has at least so many steps, if it has as many rows. */
const STEPS_PER_EPOCH = 16;
const LARGEST_BATCH = 8;
const USUAL_EPOCHS = 3;
const MOST_EPOCHS = 10;
/** Fewer steps teach little; they become more by further epochs. */
const LEAST_STEPS = 100;
/** More rows are read in fewer epochs. */
const MOST_ROWS_READ = 25_000;

/** The epochs and the batch size of a file with so many rows, where the request leaves them to the service. */
export function autoHyperparameters(
  rows: number,
  { n_epochs: epochs, batch_size: batch }: Pick<FineTuningHyperparameters, 'n_epochs' | 'batch_size'>,
): { epochs: number; batchSize: number } {
  const batchSize = isGiven(batch) ? batch : autoBatch(rows);
  return { epochs: isGiven(epochs) ? epochs : autoEpochs(rows, batchSize), batchSize };
}

export function isGiven<Value>(value: Value | 'auto' | undefined): value is Value {
  return value !== undefined && value !== 'auto';
}

/** A power of two. */
function autoBatch(rows: number): number {
  let batch = LARGEST_BATCH;
  while (batch > 1 && rows < batch * STEPS_PER_EPOCH) batch /= 2;
  return batch;
}

function autoEpochs(rows: number, batch: number): number {
  const forSteps = Math.ceil(LEAST_STEPS / Math.ceil(rows / batch));
  const forRows = Math.max(1, Math.floor(MOST_ROWS_READ / rows));
  return Math.min(MOST_EPOCHS, Math.max(forSteps, Math.min(USUAL_EPOCHS, forRows)));
}
