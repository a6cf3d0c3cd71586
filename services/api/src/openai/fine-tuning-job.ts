import { readManifest } from '@lorasmith/artifacts';
import {
  type Checkpoint,
  ENDED_STATUSES,
  type FineTuningCheckpoint,
  type FineTuningEvent,
  type FineTuningJob,
  type Job,
  type JobEvent,
  type JobStatus,
  jobOrigin,
  type ObjectiveRequest,
  objectiveContract,
  ProductError,
  resultFileOf,
  UNIT_LEARNING_RATE,
} from '@lorasmith/contracts';
import type { JobStore } from '@lorasmith/queue';
import type { BundleStore } from '@lorasmith/storage';
import { checkpointName, fineTunedName } from './model-directory.js';
import { hasResultFile, unixSeconds } from './openai-files.js';

export interface FineTuningJobOptions {
  jobs: Pick<JobStore, 'queue'>;
  adapters: BundleStore;
}

const STATUSES: Readonly<Record<JobStatus, FineTuningJob['status']>> = {
  queued: 'queued',
  preparing: 'validating_files',
  running: 'running',
  paused: 'paused',
  succeeded: 'succeeded',
  failed: 'failed',
  cancelled: 'cancelled',
};
/** Enough to remove what floating point adds to the quotient of two learning rates. */
const DIGITS = 12;
const NOBODY = 'lorasmith';

/** A job of either API as a fine-tuning job. @throws ProductError `redis_unavailable`, `storage_unavailable` */
export async function fineTuningJobOf(job: Job, { jobs, adapters }: FineTuningJobOptions): Promise<FineTuningJob> {
  const { id, status, adapter, training, base_model: base, name, created_at: createdAt, ended_at: endedAt } = job;
  const forecast = await jobs.queue.forecast(job);
  const end = forecast?.estimated_end ?? null;
  const { objective } = job;
  const unitRate =
    objective === undefined ? UNIT_LEARNING_RATE : objectiveContract(objective.kind).training.learning_rate;
  const hyperparameters = {
    n_epochs: training.epochs,
    batch_size: training.batch_size,
    learning_rate_multiplier: Number((training.learning_rate / unitRate).toPrecision(DIGITS)),
  };
  return {
    id,
    object: 'fine_tuning.job',
    created_at: unixSeconds(createdAt),
    finished_at: endedAt === null || !ENDED_STATUSES.includes(status) ? null : unixSeconds(endedAt),
    estimated_finish: end === null ? null : unixSeconds(end),
    model: base,
    fine_tuned_model: adapter === null ? null : fineTunedName({ id: adapter, base_model: base, name }),
    organization_id: job.owner ?? NOBODY,
    status: STATUSES[status],
    training_file: job.dataset,
    validation_file: job.validation.dataset,
    result_files: hasResultFile(job) ? [resultFileOf(id)] : [],
    trained_tokens: await trainedTokens(job, adapters),
    hyperparameters,
    method: methodOf(objective, hyperparameters),
    seed: training.seed,
    user_provided_suffix: name,
    metadata: job.metadata,
    integrations: [],
    error: errorOf(job),
  };
}

function methodOf(
  objective: Job['objective'],
  hyperparameters: FineTuningJob['hyperparameters'],
): FineTuningJob['method'] {
  if (objective === undefined) return { type: 'supervised', supervised: { hyperparameters } };
  const { method, beta, rewards } = objectiveContract(objective.kind);
  switch (method) {
    case 'dpo':
      return { type: 'dpo', dpo: { hyperparameters: { beta: beta!(objective), ...hyperparameters } } };
    case 'reinforcement':
      return { type: 'reinforcement', reinforcement: { grader: rewards!(objective).grader, hyperparameters } };
  }
}

/** The tokens that were read: those that the OpenAI API bills. */
async function trainedTokens({ adapter }: Job, adapters: BundleStore): Promise<number | null> {
  if (adapter === null) return null;
  // A deleted adapter, or a damaged one, does not hide its job.
  const manifest = await readManifest(adapters, adapter).catch(() => null);
  return (manifest && jobOrigin(manifest.origin))?.result.tokens ?? null;
}

function errorOf({ error, objective }: Job): FineTuningJob['error'] {
  if (error === null) return null;
  const { code, message, details } = error;
  const [first] = details;
  return { code, message, param: first?.param === undefined ? null : fineTuningParam(first.param, objective) };
}

/** A stored checkpoint as the OpenAI API has it. */
export function fineTuningCheckpointOf(checkpoint: Checkpoint, job: Job): FineTuningCheckpoint {
  const { step, train_loss, eval_loss, created_at: createdAt } = checkpoint;
  return {
    id: `${job.id}:ckpt-step-${step}`,
    object: 'fine_tuning.job.checkpoint',
    created_at: unixSeconds(createdAt),
    fine_tuning_job_id: job.id,
    fine_tuned_model_checkpoint: checkpointName(job, step),
    step_number: step,
    metrics: { step, train_loss, ...(eval_loss === null ? {} : { full_valid_loss: eval_loss }) },
  };
}

type EventText = Pick<FineTuningEvent, 'message'> & Partial<Pick<FineTuningEvent, 'level' | 'type' | 'data'>>;

/** An event of a job as the OpenAI API has it: a sentence, and the numbers of steps and evaluations. */
export function fineTuningEventOf(event: JobEvent): FineTuningEvent {
  const { id, created_at: createdAt } = event;
  const { message, level = 'info', type = 'message', data = {} } = textOf(event);
  return { id, object: 'fine_tuning.job.event', created_at: unixSeconds(createdAt), level, message, type, data };
}

function textOf(event: JobEvent): EventText {
  switch (event.type) {
    case 'job-queued':
      return { message: `Created fine-tuning job: ${event.job}` };
    case 'job-started':
      return { message: `A worker has started attempt ${event.data.attempt} and validates the files` };
    case 'tokenizing-progressed':
      return { message: `Tokenized ${event.data.rows} of ${event.data.total_rows} rows` };
    case 'reference-progressed':
      return { message: `The reference has read ${event.data.pairs} of ${event.data.total_pairs} rows` };
    case 'report-ready': {
      const { steps, rows, warnings } = event.data.report;
      const message = `Files validated: training ${steps.total} steps on ${rows.training} rows`;
      if (warnings.length === 0) return { message };
      return { message: [message, ...warnings.map((warning) => warning.message)].join('. '), level: 'warn' };
    }
    case 'step-finished': {
      const { step, total_steps, loss, learning_rate, grad_norm, preference, group } = event.data;
      const message = `Step ${step}/${total_steps}: training loss=${loss.toFixed(2)}`;
      return {
        message,
        type: 'metrics',
        data: { step, total_steps, train_loss: loss, learning_rate, grad_norm, ...preference, ...group },
      };
    }
    case 'evaluation-finished': {
      const { step, loss, preference, group } = event.data;
      const when = step === 0 ? 'Before training' : `After step ${step}`;
      return {
        message: `${when}: full validation loss=${loss.toFixed(2)}`,
        type: 'metrics',
        data: { step, full_valid_loss: loss, ...preference, ...group },
      };
    }
    case 'samples-generated':
      return { message: `Generated ${event.data.samples.length} samples after step ${event.data.step}` };
    case 'answers-graded':
      return { message: `Graded the answers of step ${event.data.step}` };
    case 'checkpoint-saved':
      return { message: `Saved a checkpoint of step ${event.data.step}` };
    case 'checkpoint-loaded':
      return { message: `Training continues after step ${event.data.step}` };
    case 'training-stopped-early':
      return { message: `Stopped early after step ${event.data.step}: the best was step ${event.data.best_step}` };
    case 'adapter-published':
      return { message: 'The job has successfully completed' };
    case 'job-failed':
      return { message: `The job failed: ${event.data.error.message}`, level: 'error' };
    case 'job-cancelled':
      return { message: 'The job was cancelled' };
    case 'job-paused':
      return { message: 'The job is paused' };
    case 'job-resumed':
      return { message: 'The job is resumed' };
  }
}

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
