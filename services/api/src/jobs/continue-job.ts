import { createHash } from 'node:crypto';
import {
  type Checkpoint,
  ENDED_STATUSES,
  type Job,
  type JobId,
  type JobSpec,
  ProductError,
  type PublishCheckpointRequest,
  specOf,
} from '@lorasmith/contracts';
import type { JobStore } from '@lorasmith/queue';
import type { AdapterReservation } from '../access/limits.js';
import { type AccessLimits, jobLimitsOf } from '../access/limits.js';
import type { DatasetCatalog } from '../datasets/dataset-catalog.js';
import { inValidation } from './job-inputs.js';

export interface JobContinuationOptions {
  jobs: Pick<JobStore, 'getJob' | 'resumeJob' | 'checkpoints' | 'createJob' | 'repeatedJob' | 'adapterBytes'>;
  catalog: Pick<DatasetCatalog, 'uploaded'>;
  adapterReservation: AdapterReservation;
}

export interface PublishOptions extends PublishCheckpointRequest {
  idempotencyKey: string | undefined;
  limits: AccessLimits;
}

/** Resumes jobs that have ended or are paused, and publishes checkpoints of ended ones. */
export class JobContinuation {
  readonly #options: JobContinuationOptions;

  constructor(options: JobContinuationOptions) {
    this.#options = options;
  }

  /**
   * Queues a job again.
   * @throws ProductError `job_not_found`, `job_not_resumable`, `dataset_not_found`, `quota_exceeded`, `queue_full`,
   * `storage_full`
   */
  async resume(id: JobId, limits: AccessLimits): Promise<Job> {
    const { jobs, catalog, adapterReservation } = this.#options;
    const job = await this.#existingJob(id);
    // Publishing a checkpoint reads no dataset.
    if (job.kind === 'train' && ENDED_STATUSES.includes(job.status)) {
      await catalog.uploaded(job.dataset);
      if (job.validation.dataset !== null) await catalog.uploaded(job.validation.dataset).catch(inValidation);
    }
    const resume = () => jobs.resumeJob(id, jobLimitsOf(limits));
    // A paused job still has its quota. Any other status is refused by the job store.
    if (job.status !== 'failed' && job.status !== 'cancelled') return await resume();
    return await adapterReservation.within(job.owner, await jobs.adapterBytes.of(id), limits, resume);
  }

  /**
   * Queues a job that publishes a checkpoint as an adapter.
   * @param step - `best`, `last`, or a number
   * @throws ProductError `job_not_found`, `job_still_active`, `checkpoint_not_found`, `idempotency_conflict`,
   * `quota_exceeded`, `queue_full`, `storage_full`
   */
  async publish(id: JobId, step: string, { name, idempotencyKey, limits }: PublishOptions): Promise<Job> {
    const { jobs, adapterReservation } = this.#options;
    const job = await this.#existingJob(id);
    const { owner } = job;
    const requestHash = createHash('sha256')
      .update(JSON.stringify([id, step, name ?? null]))
      .digest('hex');
    if (idempotencyKey !== undefined) {
      // Before checks whose outcome may have changed since: the checkpoint, the status of the job, the quota.
      const repeated = await jobs.repeatedJob({ idempotencyKey, requestHash, owner });
      if (repeated !== null) return repeated;
    }
    if (!ENDED_STATUSES.includes(job.status)) {
      throw new ProductError(
        'job_still_active',
        'The job has not ended, so its checkpoints still change. Wait for it, or cancel it first.',
      );
    }
    const checkpoint = chosen(await jobs.checkpoints.list(id), step);
    const adapterBytes = await jobs.adapterBytes.of(id);
    const { job: publishing } = await adapterReservation.within(owner, adapterBytes, limits, () =>
      jobs.createJob(
        { ...undeliveredSpecOf(job), name: name ?? job.name },
        {
          task: { kind: 'publish-checkpoint', checkpoint: { job: id, step: checkpoint.step } },
          idempotencyKey,
          requestHash,
          owner,
          adapterBytes,
          ...jobLimitsOf(limits),
        },
      ),
    );
    return publishing;
  }

  async #existingJob(id: JobId): Promise<Job> {
    const job = await this.#options.jobs.getJob(id);
    if (job === null) throw new ProductError('job_not_found', `There is no job ${id}.`);
    return job;
  }
}

/** The spec of a job without its deliveries: who publishes a checkpoint decides about those of it. */
function undeliveredSpecOf(job: Job): JobSpec {
  const { deliver: _deliver, ...spec } = specOf(job);
  return spec;
}

/** The checkpoint of a step, of `best` or of `last`. @throws ProductError `checkpoint_not_found` */
function chosen(checkpoints: Checkpoint[], step: string): Checkpoint {
  const found = checkpoints.find(
    (one) => (step === 'best' && one.is_best) || (step === 'last' && one.is_last) || String(one.step) === step,
  );
  if (found !== undefined) return found;
  const stored = checkpoints.map((one) => one.step);
  const message =
    stored.length === 0
      ? 'The job has no stored checkpoints.'
      : `The job has checkpoints of the steps ${stored.join(', ')}.`;
  throw new ProductError(
    'checkpoint_not_found',
    `There is no checkpoint ${JSON.stringify(step.slice(0, 20))}. ${message}`,
  );
}
