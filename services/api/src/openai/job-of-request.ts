import type { ModelSource } from '@lorasmith/base-models';
import {
  DatasetId,
  type FineTuningHyperparameters,
  type FineTuningRequest,
  fineTuningTraining,
  isGiven,
  type JobRequest,
  type ObjectiveRequest,
  ProductError,
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
 * The job that a fine-tuning request asks for.
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
  const { max_positions: maxPositions } = await baseModels.describe(base);
  // Whoever may not use the file, or has deleted it, is told when the job is submitted.
  const dataset = await catalog.uploaded(trainingFile).catch(nullIfMissing);
  return {
    base_model: base,
    dataset: trainingFile,
    lora: adapter === null ? {} : { init_from: adapter },
    ...(objective === null ? {} : { objective }),
    training: fineTuningTraining(objective === null ? 'supervised' : 'dpo', hyperparameters, {
      rows: dataset?.rows ?? 1,
      seed,
      maxPositions,
    }),
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

function checkFileId(id: string, param: string): void {
  if (!datasetIdSchema.Check(id)) throw fileNotFound(id, param);
}

function invalid(param: string, message: string): ProductError {
  return new ProductError('invalid_request', message, { param });
}
