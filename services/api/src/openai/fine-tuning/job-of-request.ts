import type { ModelSource } from '@lorasmith/base-models';
import {
  DatasetId,
  type FineTuningHyperparameters,
  type FineTuningRequest,
  type JobRequest,
  MAX_SEQ_LENGTH,
  ProductError,
  UNIT_LEARNING_RATE,
} from '@lorasmith/contracts';
import type { Caller } from '@lorasmith/service-kit';
import { Compile } from 'typebox/compile';
import { fileNotFound } from '../files/openai-file.js';
import type { ModelDirectory } from '../models/model-directory.js';

export interface JobOfRequestOptions {
  directory: Pick<ModelDirectory, 'resolve'>;
  baseModels: Pick<ModelSource, 'describe'>;
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
  { directory, baseModels }: JobOfRequestOptions,
): Promise<JobRequest> {
  const hyperparameters = hyperparametersOf(body);
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
    training: {
      ...trainingOf(hyperparameters),
      ...(seed == null ? {} : { seed }),
      ...length,
      on_overflow: 'truncate',
    },
    ...(validationFile == null ? {} : { validation: { dataset: validationFile } }),
    ...(suffix == null ? {} : { name: suffix }),
    ...(metadata == null ? {} : { metadata }),
  };
}

/** @throws ProductError `invalid_request` for another method, or hyperparameters in both places */
function hyperparametersOf({ method, hyperparameters: older }: FineTuningRequest): FineTuningHyperparameters {
  if (method == null) return older ?? {};
  if (method.type !== 'supervised') {
    throw invalid('method.type', `The method ${JSON.stringify(method.type)} is not supported: only supervised.`);
  }
  for (const other of ['dpo', 'reinforcement'] as const) {
    if (method[other] != null) throw invalid(`method.${other}`, `method.${other} is not supported.`);
  }
  const own = method.supervised?.hyperparameters;
  if (own === undefined) return older ?? {};
  if (older == null) return own;
  const message = 'Send hyperparameters or method.supervised.hyperparameters, which is the newer place, not both.';
  throw invalid('hyperparameters', message);
}

function refuseIntegrations(integrations: unknown): void {
  if (integrations == null || (Array.isArray(integrations) && integrations.length === 0)) return;
  throw invalid('integrations', 'integrations are not supported. The events of the job have its metrics.');
}

function trainingOf({ n_epochs, batch_size, learning_rate_multiplier }: FineTuningHyperparameters) {
  const isGiven = <Value>(value: Value | 'auto' | undefined): value is Value => value !== undefined && value !== 'auto';
  return {
    ...(isGiven(n_epochs) ? { epochs: n_epochs } : {}),
    ...(isGiven(batch_size) ? { batch_size } : {}),
    ...(isGiven(learning_rate_multiplier) ? { learning_rate: learning_rate_multiplier * UNIT_LEARNING_RATE } : {}),
  };
}

function checkFileId(id: string, param: string): void {
  if (!datasetIdSchema.Check(id)) throw fileNotFound(id, param);
}

function invalid(param: string, message: string): ProductError {
  return new ProductError('invalid_request', message, { param });
}
