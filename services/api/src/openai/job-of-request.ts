import type { ModelSource } from '@lorasmith/base-models';
import {
  DatasetId,
  type FineTuningHyperparameters,
  type FineTuningRequest,
  type JobRequest,
  MAX_SEQ_LENGTH,
  type ObjectiveRequest,
  PREFERENCE_LEARNING_RATE,
  ProductError,
  UNIT_LEARNING_RATE,
} from '@lorasmith/contracts';
import type { Caller } from '@lorasmith/service-kit';
import { Compile } from 'typebox/compile';
import { type DatasetCatalog, nullIfMissing } from '../datasets/dataset-catalog.js';
import type { ModelDirectory } from './model-directory.js';
import { fileNotFound } from './openai-files.js';

export interface JobOfRequestOptions {
  directory: Pick<ModelDirectory, 'resolve'>;
  baseModels: Pick<ModelSource, 'describe'>;
  catalog: Pick<DatasetCatalog, 'uploaded'>;
}

const datasetIdSchema = Compile(DatasetId);

/**
 * The job that a fine-tuning request asks for. What the OpenAI API has no field for is set as it does: a row longer than the
 * context of the model is cut.
 * @throws ProductError `invalid_request` for what is not supported; `dataset_not_found`; errors of {@link ModelDirectory.resolve}
 */
export async function jobOfRequest(
  body: FineTuningRequest,
  caller: Caller,
  { directory, baseModels, catalog }: JobOfRequestOptions,
): Promise<JobRequest> {
  const { objective, hyperparameters } = methodOf(body);
  refuseIntegrations(body.integrations);
  const { model, training_file: trainingFile, validation_file: validationFile, suffix, seed, metadata } = body;
  checkFileId(trainingFile, 'training_file');
  if (validationFile != null) checkFileId(validationFile, 'validation_file');
  const { base_model: base, adapter } = await directory.resolve(model, caller);
  const { max_positions: positions } = await baseModels.describe(base);
  const length = positions === null ? {} : { max_seq_length: Math.min(positions, MAX_SEQ_LENGTH) };
  return {
    base_model: base,
    dataset: trainingFile,
    lora: adapter === null ? {} : { init_from: adapter },
    ...(objective === null ? {} : { objective }),
    training: {
      ...(await trainingOf(hyperparameters, {
        file: trainingFile,
        catalog,
        method: objective === null ? 'supervised' : 'dpo',
      })),
      ...(seed == null ? {} : { seed }),
      ...length,
      on_overflow: 'truncate',
    },
    ...(validationFile == null ? {} : { validation: { dataset: validationFile } }),
    ...(suffix == null ? {} : { name: suffix }),
    ...(metadata == null ? {} : { metadata }),
  };
}

interface Method {
  /** Null for a supervised one. */
  objective: ObjectiveRequest | null;
  hyperparameters: FineTuningHyperparameters;
}

/** @throws ProductError `invalid_request` for another method, or hyperparameters in both places */
function methodOf({ method, hyperparameters: older }: FineTuningRequest): Method {
  if (method == null) return { objective: null, hyperparameters: older ?? {} };
  const { type } = method;
  if (type !== 'supervised' && type !== 'dpo') {
    throw invalid('method.type', `The method ${JSON.stringify(type)} is not supported: only supervised and dpo.`);
  }
  for (const other of ['supervised', 'dpo', 'reinforcement'] as const) {
    if (other === type || method[other] == null) continue;
    const message = `method.${other} is not supported${other === 'reinforcement' ? '' : ` with the method ${type}`}.`;
    throw invalid(`method.${other}`, message);
  }
  const own = method[type]?.hyperparameters;
  if (own !== undefined && older != null) {
    const message = `Send hyperparameters or method.${type}.hyperparameters, which is the newer place, not both.`;
    throw invalid('hyperparameters', message);
  }
  if (type === 'supervised') return { objective: null, hyperparameters: own ?? older ?? {} };
  const { beta, ...hyperparameters } = method.dpo?.hyperparameters ?? {};
  const objective: ObjectiveRequest = { kind: 'preference', ...(isGiven(beta) ? { beta } : {}) };
  return { objective, hyperparameters: own === undefined ? (older ?? {}) : hyperparameters };
}

function refuseIntegrations(integrations: unknown): void {
  if (integrations == null || (Array.isArray(integrations) && integrations.length === 0)) return;
  throw invalid('integrations', 'integrations are not supported. The events of the job have its metrics.');
}

async function trainingOf(
  given: FineTuningHyperparameters,
  { file, catalog, method }: { file: DatasetId; catalog: JobOfRequestOptions['catalog']; method: AutoMethod },
) {
  // Whoever may not use the file, or has deleted it, is told when the job is submitted.
  const dataset = await catalog.uploaded(file).catch(nullIfMissing);
  const { epochs, batchSize, learningRate } = autoHyperparameters(method, dataset?.rows ?? 1, given);
  return { epochs, batch_size: batchSize, learning_rate: learningRate };
}

function checkFileId(id: string, param: string): void {
  if (!datasetIdSchema.Check(id)) throw fileNotFound(id, param);
}

function invalid(param: string, message: string): ProductError {
  return new ProductError('invalid_request', message, { param });
}

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
