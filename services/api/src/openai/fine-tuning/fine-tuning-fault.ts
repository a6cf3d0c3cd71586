import { type ObjectiveRequest, objectiveContract, ProductError } from '@lorasmith/contracts';

/** The objective of a job, or of a request for one; null or undefined for a supervised one. */
type Objective = Pick<ObjectiveRequest, 'kind'> | null | undefined;

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
};

/** Fields of a job, and the hyperparameters of its method that they come from. */
const HYPERPARAMETERS: Readonly<Record<string, string>> = {
  'training.epochs': 'n_epochs',
  'training.batch_size': 'batch_size',
  'training.learning_rate': 'learning_rate_multiplier',
};

/** The field of a fine-tuning request for a field of a job with this objective. */
export function fineTuningParam(param: string, objective: Objective): string {
  const hyperparameter = HYPERPARAMETERS[param];
  if (hyperparameter === undefined) return PARAMS[param] ?? param;
  const method = objective == null ? 'supervised' : objectiveContract(objective.kind).method;
  return `method.${method}.hyperparameters.${hyperparameter}`;
}

/** Throws an error about a job with this objective with the fields of the OpenAI API. */
export function throwAsFineTuningFault(error: unknown, objective: Objective): never {
  if (!(error instanceof ProductError) || error.status >= 500) throw error;
  const details = error.details.map((fault) =>
    fault.param === undefined ? fault : { ...fault, param: fineTuningParam(fault.param, objective) },
  );
  const { retryAfterSeconds } = error;
  const param = error.param === undefined ? undefined : fineTuningParam(error.param, objective);
  throw new ProductError(error.code, error.message, { param, details, retryAfterSeconds, cause: error });
}
