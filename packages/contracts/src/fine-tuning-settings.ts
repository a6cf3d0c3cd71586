import { type FineTuningHyperparameters, UNIT_LEARNING_RATE } from './fine-tuning.js';
import { type JobRequest, MAX_SEQ_LENGTH } from './job.js';
import { PREFERENCE_LEARNING_RATE } from './preference.js';

// docs/decisions/openai-wire.md has the source of each choice, and what was measured.

/** The fewest steps in an epoch of a small file, if it has as many rows. */
const STEPS_PER_EPOCH = 16;
const LARGEST_BATCH = 8;
const USUAL_EPOCHS = 3;
const MOST_EPOCHS = 10;
/** Fewer steps teach little; they become more by further epochs. */
const LEAST_STEPS = 100;
/** More rows are read in fewer epochs. */
const MOST_ROWS_READ = 25_000;

/** The rate of each method at a multiplier of 1, and the steps from which on it is enough. Fewer have a larger one. */
const RATES = {
  supervised: { unit: UNIT_LEARNING_RATE, steps: 200 },
  dpo: { unit: PREFERENCE_LEARNING_RATE, steps: 1_911 },
} as const;
const LARGEST_RATE = 2e-4;

export type AutoMethod = keyof typeof RATES;

/**
 * The training of a job with these hyperparameters. What the OpenAI API has no field for is set as it does: a row longer than the
 * context of the model is cut.
 *
 * @param rows - Of the training file.
 * @param maxPositions - Of the base model; null: it has no limit.
 */
export function fineTuningTraining(
  method: AutoMethod,
  given: FineTuningHyperparameters,
  { rows, seed, maxPositions }: { rows: number; seed: number | null | undefined; maxPositions: number | null },
): NonNullable<JobRequest['training']> {
  const { epochs, batchSize, learningRate } = autoHyperparameters(method, rows, given);
  return { epochs, batch_size: batchSize, learning_rate: learningRate, ...otherTraining({ seed, maxPositions }) };
}

/** The settings of a training that do not depend on its method. */
export function otherTraining({
  seed,
  maxPositions,
}: {
  seed: number | null | undefined;
  maxPositions: number | null;
}): NonNullable<JobRequest['training']> {
  return {
    ...(seed == null ? {} : { seed }),
    ...(maxPositions === null ? {} : { max_seq_length: Math.min(maxPositions, MAX_SEQ_LENGTH) }),
    on_overflow: 'truncate',
  };
}

/** The hyperparameters for a file with this number of rows, where the request leaves them to the service. */
export function autoHyperparameters(
  method: AutoMethod,
  rows: number,
  { n_epochs: epochs, batch_size: batch, learning_rate_multiplier: multiplier }: FineTuningHyperparameters,
): { epochs: number; batchSize: number; learningRate: number } {
  const { unit } = RATES[method];
  const batchSize = isGiven(batch) ? batch : autoBatch(rows);
  const chosen = { epochs: isGiven(epochs) ? epochs : autoEpochs(rows, batchSize), batchSize };
  const factor = isGiven(multiplier) ? multiplier : autoMultiplier(method, chosen.epochs * Math.ceil(rows / batchSize));
  return { ...chosen, learningRate: factor * unit };
}

/** True if a request has a value of its own. */
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

/** So that few steps move the adapter as far as many. */
function autoMultiplier(method: AutoMethod, steps: number): number {
  const { unit, steps: enough } = RATES[method];
  const wanted = Math.min(Math.max(1, enough / steps), LARGEST_RATE / unit);
  return Number(wanted.toPrecision(2));
}
