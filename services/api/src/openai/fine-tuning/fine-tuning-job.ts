import { readManifest } from '@lorasmith/artifacts';
import {
  ENDED_STATUSES,
  type FineTuningJob,
  type Job,
  type JobStatus,
  objectiveContract,
  resultFileOf,
  UNIT_LEARNING_RATE,
} from '@lorasmith/contracts';
import type { JobStore } from '@lorasmith/queue';
import type { BundleStore } from '@lorasmith/storage';
import { unixSeconds } from '../files/openai-file.js';
import { hasResultFile } from '../files/result-files.js';
import { fineTunedName } from '../models/fine-tuned-name.js';
import { fineTuningParam } from './fine-tuning-fault.js';

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
  if (manifest === null || manifest.origin.kind === 'imported') return null;
  return manifest.origin.result.tokens;
}

function errorOf({ error, objective }: Job): FineTuningJob['error'] {
  if (error === null) return null;
  const { code, message, details } = error;
  const [first] = details;
  return { code, message, param: first?.param === undefined ? null : fineTuningParam(first.param, objective) };
}
