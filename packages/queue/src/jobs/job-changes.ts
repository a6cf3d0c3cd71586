import { type DetailsChange, type Job, type JobId, type JobStatus, ProductError } from '@lorasmith/contracts';
import type { StoreDeps } from '../keys.js';
import { bullIdOf, type JobQueue } from '../queue/job-queue.js';
import { luaScript } from '../redis/lua-script.js';
import { deletionKeys, type JobLimits, limitArguments, throwIfNotAdmitted } from './job-admission.js';
import { jobMissing, readInputs, readJob } from './job-record.js';
import { jobScript } from './record-change.js';
import { searchedName, searchedTags } from './search-jobs.js';

const changeDetailsScript = luaScript(import.meta.url, './jobs.lua', 'change_details');
const requestCancelScript = jobScript(import.meta.url, './jobs.lua', 'request_cancel');
const requestPauseScript = jobScript(import.meta.url, './jobs.lua', 'request_pause');
const resumeJobScript = jobScript(import.meta.url, './jobs.lua', 'resume_job');
const deleteJobScript = jobScript(import.meta.url, './jobs.lua', 'delete_job');

/** Changes that a user asks for: the details of a job, cancel, pause, resume and delete. */
export class JobChanges {
  readonly #deps: StoreDeps;
  readonly #queue: JobQueue;

  constructor(deps: StoreDeps, queue: JobQueue) {
    this.#deps = deps;
    this.#queue = queue;
  }

  /** Changes name, tags and note, all at once. @throws ProductError `job_not_found` */
  async changeDetails(id: JobId, { name, tags, note }: DetailsChange): Promise<Job> {
    const { redis, keys } = this.#deps;
    const changes: string[] = [];
    if (name !== undefined) changes.push('name', name === null ? '' : JSON.stringify(name), searchedName(name));
    if (tags !== undefined) changes.push('tags', tags.length === 0 ? '' : JSON.stringify(tags), searchedTags(tags));
    // A note is not searched.
    if (note !== undefined) changes.push('note', note === null ? '' : JSON.stringify(note), '');
    const scriptKeys = { record: keys.job(id), search_facts: keys.searchFacts };
    if ((await changeDetailsScript(redis, scriptKeys, { id }, changes)) === 'missing') throw jobMissing(id);
    return await readJob(this.#deps, id);
  }

  /**
   * A waiting or paused job is cancelled when this returns. A running job is cancelled once its worker confirms.
   * With `stoppedAtRung`, not a user cancels it but the rung of its sweep at this step.
   * @throws ProductError `job_not_found`, `job_not_cancellable`
   */
  async requestCancel(id: JobId, { stoppedAtRung }: { stoppedAtRung?: number } = {}): Promise<Job> {
    const job = await readJob(this.#deps, id);
    const request = { now: new Date().toISOString(), rung: stoppedAtRung ?? '' };
    const answer = await requestCancelScript(this.#deps, job, {}, request);
    if (answer === 'publishing') {
      throw new ProductError('job_not_cancellable', 'The training has finished and the adapter is being published.');
    }
    if (answer === 'ended') {
      throw new ProductError('job_not_cancellable', 'The job has ended. Only an unfinished job can be cancelled.');
    }
    if (answer === 'cancelled') await this.#queue.attempt(id, (queue) => queue.remove(bullIdOf(job)));
    return await readJob(this.#deps, id);
  }

  /**
   * A waiting job is paused when this returns. A running job is paused once its worker has done a step and saved a checkpoint.
   * @throws ProductError `job_not_found`, `job_not_pausable`
   */
  async requestPause(id: JobId): Promise<Job> {
    const job = await readJob(this.#deps, id);
    const answer = await requestPauseScript(this.#deps, job, {}, { now: new Date().toISOString() });
    const refusal = NOT_PAUSABLE[String(answer)];
    if (refusal !== undefined) throw new ProductError('job_not_pausable', refusal);
    if (answer === 'paused') await this.#queue.attempt(id, (queue) => queue.remove(bullIdOf(job)));
    return await readJob(this.#deps, id);
  }

  /**
   * Queues a failed, cancelled or paused job again; it resumes from its last checkpoint. A paused job keeps its position. A pause
   * that was requested and has not taken effect is withdrawn. With `onlyPaused`, a job that has ended stays so.
   * @throws ProductError `job_not_found`, `job_not_resumable`, `dataset_not_found`, `adapter_not_found`, `quota_exceeded`,
   * `queue_full`
   */
  async resumeJob(
    id: JobId,
    { onlyPaused = false, ...limits }: JobLimits & { onlyPaused?: boolean } = {},
  ): Promise<Job> {
    const { keys } = this.#deps;
    const ended = await readJob(this.#deps, id);
    const answer = await resumeJobScript(
      this.#deps,
      ended,
      { owner_jobs: keys.ofOwner(ended.owner), ...deletionKeys(keys, ended), cleanup: keys.cleanup(id) },
      { ...limitArguments(limits), only_paused: onlyPaused ? 'yes' : 'no' },
    );
    throwIfNotAdmitted(ended, answer, limits);
    if (answer === 'in-cleanup') throw inCleanup();
    const job = await readJob(this.#deps, id);
    if (answer === 'withdrawn') return job;
    if (answer !== 'done') throw notResumable(answer as JobStatus);
    await this.#queue.attempt(id, (queue) => queue.add(bullIdOf(job)));
    return job;
  }

  /** @throws ProductError `job_not_found`, `job_still_active` */
  async deleteJob(id: JobId): Promise<void> {
    const { redis, keys } = this.#deps;
    const job = await readInputs(this.#deps, id);
    const fields = ['idempotency_key', 'owner', 'resumes'] as const;
    const [idempotencyKey, ownerId, resumes] = await redis.hmget(keys.job(id), ...fields);
    const owner = ownerId ?? null;
    if (job === null) throw jobMissing(id);
    const answer = await deleteJobScript(
      this.#deps,
      job,
      {
        all_jobs: keys.all,
        owner_jobs: keys.ofOwner(owner),
        search_facts: keys.searchFacts,
        idempotency: keys.idempotency(idempotencyKey ?? '', owner),
      },
      {},
    );
    if (answer === 'missing') throw jobMissing(id);
    if (answer === 'active') {
      throw new ProductError('job_still_active', 'The job has not ended. Cancel it first.');
    }
    await this.#queue.attempt(id, (queue) => queue.remove(bullIdOf({ id, resumes: Number(resumes) })));
  }
}

/** Reasons by the answer of the script. */
const NOT_PAUSABLE: Readonly<Record<string, string>> = {
  ended: 'The job has ended. Only a waiting or running job can be paused.',
  cancelling: 'The job is being cancelled.',
  publishing: 'The training has finished and the adapter is being published.',
  'not-a-training': 'A job that publishes a checkpoint cannot be paused: it does not train, and takes a moment.',
};

function notResumable(status: JobStatus): ProductError {
  const message =
    status === 'succeeded'
      ? 'The job has succeeded. Publish one of its checkpoints, or create a job with init_from to train its adapter further.'
      : `The job is ${status} already. Only a failed, cancelled or paused job can be resumed.`;
  return new ProductError('job_not_resumable', message);
}

function inCleanup(): ProductError {
  return new ProductError('job_not_resumable', 'The files of the job are being removed. Try again in a minute.');
}
