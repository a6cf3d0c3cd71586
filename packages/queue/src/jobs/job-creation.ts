import { type Job, type JobSpec, type JobTask, newIdentifier, type OwnDetails, type Owner } from '@lorasmith/contracts';
import type { StoreDeps } from '../keys.js';
import { bullIdOf, type JobQueue } from '../queue/job-queue.js';
import { type PlannedWork, UNPLANNED } from '../queue/queue-entry.js';
import type { EndedJobs } from './ended-jobs.js';
import {
  deletionKeys,
  IDEMPOTENCY_SECONDS,
  idempotencyConflict,
  type JobLimits,
  limitArguments,
  throwIfNotAdmitted,
} from './job-admission.js';
import { type JobOrigin, jobOfRecord, NO_DETAILS, newRecordFields, readJob } from './job-record.js';
import { jobScript } from './record-change.js';
import { searchedName, searchedTags, searchFacts } from './search-jobs.js';

const createJobScript = jobScript(import.meta.url, './jobs.lua', 'create_job');

export interface CreateJobOptions extends JobLimits {
  /** Maximum number of stored ended jobs of the owner; older ones are removed. @defaultValue no limit */
  keptOfOwner?: number | undefined;
  /** Maximum number of stored ended jobs of all owners. @defaultValue no limit */
  keptInAll?: number | undefined;
  /** The same key with the same hash returns the job of the first request. Stored for a day. */
  idempotencyKey?: string | undefined;
  /** Digest of the request. It distinguishes a repeated request from a different one with the same key. */
  requestHash: string;
  /** The origin, for logs and traces. @defaultValue unknown */
  origin?: JobOrigin | undefined;
  /** @defaultValue `{ kind: 'train' }` */
  task?: JobTask | undefined;
  /** @defaultValue null: no owner */
  owner?: Owner | undefined;
  /** Maximum size of its adapter, reserved until the job has ended. @defaultValue 0 */
  adapterBytes?: number | undefined;
  /** Its planned work, for estimates. @defaultValue unknown */
  planned?: PlannedWork | undefined;
  /** @defaultValue no tags, no note */
  details?: OwnDetails | undefined;
}

/** Creates jobs, once for each idempotency key. */
export class JobCreation {
  readonly #deps: StoreDeps;
  readonly #queue: JobQueue;
  readonly #ended: EndedJobs;

  constructor(deps: StoreDeps, { queue, ended }: { queue: JobQueue; ended: EndedJobs }) {
    this.#deps = deps;
    this.#queue = queue;
    this.#ended = ended;
  }

  /** @throws ProductError `idempotency_conflict`, `dataset_not_found`, `adapter_not_found`, `quota_exceeded`, `queue_full` */
  async createJob(
    spec: JobSpec,
    { idempotencyKey, requestHash, origin, owner = null, adapterBytes = 0, ...options }: CreateJobOptions,
  ): Promise<{ job: Job; created: boolean }> {
    const { planned = UNPLANNED, task = { kind: 'train' }, details = NO_DETAILS, ...limits } = options;
    const { keys } = this.#deps;
    const newId = newIdentifier('job');
    const createdAt = new Date();
    const answer = await createJobScript(
      this.#deps,
      { ...spec, id: newId },
      {
        all_jobs: keys.all,
        sequence_counter: keys.sequence,
        owner_jobs: keys.ofOwner(owner),
        search_facts: keys.searchFacts,
        ...deletionKeys(keys, spec),
        idempotency: keys.idempotency(idempotencyKey ?? '', owner),
      },
      {
        kind: task.kind,
        request_hash: requestHash,
        idempotency_seconds: idempotencyKey === undefined ? '' : IDEMPOTENCY_SECONDS,
        ...limitArguments(limits),
        facts: searchFacts(spec, createdAt),
        searched_name: searchedName(spec.name),
        searched_tags: searchedTags(details.tags),
      },
      newRecordFields(spec, createdAt, { owner, origin, idempotencyKey, adapterBytes, planned, task, details }),
    );
    if (answer === 'conflict') throw idempotencyConflict('job');
    throwIfNotAdmitted(spec, answer, limits);
    const created = answer === 'created';
    const job = await readJob(this.#deps, created ? newId : String(answer));
    await this.#queueAgain(job);
    if (created) {
      await this.#ended.removeOldest(keys.ofOwner(owner), limits.keptOfOwner);
      await this.#ended.removeOldest(keys.all, limits.keptInAll);
    }
    return { job, created };
  }

  /**
   * The job that an earlier request with this key created; null for a new key.
   * @throws ProductError `idempotency_conflict` if that was a different request
   */
  async repeatedJob({
    idempotencyKey,
    requestHash,
    owner = null,
  }: Pick<CreateJobOptions, 'requestHash' | 'owner'> & { idempotencyKey: string }): Promise<Job | null> {
    const { redis, keys } = this.#deps;
    const [id, hash] = await redis.hmget(keys.idempotency(idempotencyKey, owner), 'job', 'hash');
    if (!id) return null;
    if (hash !== requestHash) throw idempotencyConflict('job');
    const job = jobOfRecord(id, await redis.hgetall(keys.job(id)));
    if (job !== null) await this.#queueAgain(job);
    return job;
  }

  /** Queues a waiting job, also for a repeated request: the process of the first one may have died before it did. */
  async #queueAgain(job: Job): Promise<void> {
    if (job.status === 'queued') await this.#queue.attempt(job.id, (queue) => queue.add(bullIdOf(job)));
  }
}
