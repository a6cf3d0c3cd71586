import { ProductError } from '@lorasmith/contracts';

const HYPERPARAMETERS = 'method.supervised.hyperparameters';

/** Fields of a job, and those of the OpenAI API that they come from. */
const PARAMS: Readonly<Record<string, string>> = {
  base_model: 'model',
  'lora.init_from': 'model',
  dataset: 'training_file',
  'training.max_seq_length': 'training_file',
  'validation.dataset': 'validation_file',
  objective: 'method.type',
  'objective.kind': 'training_file',
  'objective.beta': 'method.dpo.hyperparameters.beta',
  name: 'suffix',
  'training.seed': 'seed',
  'training.epochs': `${HYPERPARAMETERS}.n_epochs`,
  'training.batch_size': `${HYPERPARAMETERS}.batch_size`,
  'training.learning_rate': `${HYPERPARAMETERS}.learning_rate_multiplier`,
};

/** The field of a fine-tuning request for a field of a job. */
export function fineTuningParam(param: string): string {
  return PARAMS[param] ?? param;
}

/** Throws an error about a job with the fields of the OpenAI API. */
export function throwAsFineTuningFault(error: unknown): never {
  if (!(error instanceof ProductError) || error.status >= 500) throw error;
  const details = error.details.map((fault) =>
    fault.param === undefined ? fault : { ...fault, param: fineTuningParam(fault.param) },
  );
  const { retryAfterSeconds } = error;
  const param = error.param === undefined ? undefined : fineTuningParam(error.param);
  throw new ProductError(error.code, error.message, { param, details, retryAfterSeconds, cause: error });
}
