import {
  type Counted,
  type DetailsChange,
  type Job,
  type JobEvent,
  type JobId,
  type JobSpec,
  type JobStatus,
  type JobTask,
  newIdentifier,
  type OwnDetails,
  type Owner,
  type Paged,
  ProductError,
} from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import { createEventStream, type NewestEventsOptions, type ReadEventsOptions } from '../events/event-stream.js';
import { thinEvents } from '../events/thinned-events.js';
import { jobKeys } from '../keys.js';
import { createGradings, type Gradings } from '../outbox/gradings.js';
import { createWebhookOutbox, type WebhookOutbox } from '../outbox/webhook-outbox.js';
import { createFairQueue, type FairQueue } from '../queue/fair-queue.js';
import { createJobQueue, queueEntryOf } from '../queue/job-queue.js';
import { type PlannedWork, UNPLANNED } from '../queue/queue-entry.js';
import { type Reconciled, reconcileQueue } from '../queue/reconcile-queue.js';
import { createEventNotices } from '../redis/event-notices.js';
import { onRedis } from '../redis/redis-errors.js';
import { type SharedWork, whenDue } from '../redis/shared-work.js';
import { createSweepStore, type SweepStore } from '../sweeps/sweep-store.js';
import { createMachineBoard, type MachineBoard } from '../workers/machine-board.js';
import { createWorkerStarts } from '../workers/worker-starts.js';
import { type AdapterBytes, createAdapterBytes } from './adapter-bytes.js';
import { changeJobDetails } from './change-details.js';
import { createJobScript } from './create-job.js';
import { deleteJobScript } from './delete-job.js';
import { createInputJobs, type InputJobs } from './input-jobs.js';
import {
  deletionKeys,
  IDEMPOTENCY_SECONDS,
  idempotencyConflict,
  type JobLimits,
  throwIfNotAdmitted,
} from './job-admission.js';
import { createJobAttempts, type JobAttempts } from './job-attempts.js';
import { createJobCheckpoints, type JobCheckpoints } from './job-checkpoints.js';
import { whileEnded } from './job-cleanup.js';
import { endedBeyond, type QueueStatus, readQueueStatus } from './job-index.js';
import { type ListJobsOptions, listJobs } from './job-list.js';
import { type JobOrigin, jobOfRecord, NO_DETAILS, newRecordFields, readInputs } from './job-record.js';
import { requestCancelScript } from './request-cancel.js';
import { requestPauseScript } from './request-pause.js';
import { resumeJobScript } from './resume-job.js';
import { searchedName, searchedTags, searchFacts } from './search-jobs.js';

/** How long jobs on a base model may go before those on another. */
export const DEFAULT_TURN_MS = 600_000;

export interface JobStoreOptions {
  /** The caller closes it. Its settings decide how long calls wait while Redis is unavailable. */
  redis: Redis;
  /** Every key starts with it. @defaultValue `lorasmith:` */
  prefix?: string;
  /** Called if a job was recorded but could not be queued. A worker's {@link JobStore.reconcile} queues it later. */
  onQueueError?: (id: JobId, error: unknown) => void;
  /** How long a worker may stay on its base model while others wait for another one. @defaultValue 600 000 */
  turnMs?: number;
  /** The clock of the queue, in milliseconds. @defaultValue that of Redis */
  clock?: (() => number) | undefined;
}

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

/**
 * Jobs: their records, which are the source of truth, their events, and the queue that hands them to workers.
 *
 * Every call throws ProductError `redis_unavailable` if Redis cannot be reached.
 */
export interface JobStore {
  /** @throws ProductError `idempotency_conflict`, `dataset_not_found`, `adapter_not_found`, `quota_exceeded`, `queue_full` */
  createJob(spec: JobSpec, options: CreateJobOptions): Promise<{ job: Job; created: boolean }>;
  getJob(id: JobId): Promise<Job | null>;
  /**
   * The job that an earlier request with this key created; null for a new key.
   * @throws ProductError `idempotency_conflict` if that was a different request
   */
  repeatedJob(
    options: Pick<CreateJobOptions, 'requestHash' | 'owner'> & { idempotencyKey: string },
  ): Promise<Job | null>;
  /** The owner of the job; undefined if there is no job. */
  ownerOf(id: JobId): Promise<Owner | undefined>;
  /** Newest first, unless sorted otherwise. @throws ProductError `invalid_request` if there is no job `after` */
  listJobs(options?: ListJobsOptions): Promise<Counted<Job>>;
  /** Changes name, tags and note, all at once. @throws ProductError `job_not_found` */
  changeDetails(id: JobId, change: DetailsChange): Promise<Job>;
  /**
   * A waiting or paused job is cancelled when this returns. A running job is cancelled once its worker confirms.
   * With `stoppedAtRung`, not a user cancels it but the rung of its sweep at this step.
   * @throws ProductError `job_not_found`, `job_not_cancellable`
   */
  requestCancel(id: JobId, options?: { stoppedAtRung?: number }): Promise<Job>;
  /**
   * A waiting job is paused when this returns. A running job is paused once its worker has done a step and saved a checkpoint.
   * @throws ProductError `job_not_found`, `job_not_pausable`
   */
  requestPause(id: JobId): Promise<Job>;
  /**
   * Queues a failed, cancelled or paused job again; it resumes from its last checkpoint. A paused job keeps its place. A pause
   * that was requested and has not taken effect is withdrawn. With `onlyPaused`, a job that has ended stays so.
   * @throws ProductError `job_not_found`, `job_not_resumable`, `dataset_not_found`, `adapter_not_found`, `quota_exceeded`,
   * `queue_full`
   */
  resumeJob(id: JobId, options?: JobLimits & { onlyPaused?: boolean }): Promise<Job>;
  /**
   * Runs `work` on the files of an ended job with one of these statuses. The job cannot be resumed meanwhile, unless this
   * process hangs for a minute.
   * @returns null, without running `work`, if the job has another status or another process works on its files
   */
  whileEnded<Result>(id: JobId, statuses: readonly JobStatus[], work: () => Promise<Result>): Promise<Result | null>;
  /**
   * Does work that one process does for all, unless another does it or it is not due yet. It must be safe if two do it.
   * @param work - Receives a signal that ends it early.
   * @returns null, without running `work`, if it is not due
   */
  whenDue<Result>(shared: SharedWork, work: (signal: AbortSignal) => Promise<Result>): Promise<Result | null>;
  /** @throws ProductError `job_not_found`, `job_still_active` */
  deleteJob(id: JobId): Promise<void>;
  /** Oldest first. @throws ProductError `job_not_found`, `invalid_request` */
  readEvents(id: JobId, options?: ReadEventsOptions): Promise<Paged<JobEvent>>;
  /** Newest first; `next` is the `after` of the next page. @throws ProductError `job_not_found`, `invalid_request` */
  newestEvents(id: JobId, options: NewestEventsOptions): Promise<Paged<JobEvent>>;
  /** Thins the events of jobs that ended a while ago. Workers call it regularly. @returns how many jobs */
  thinEvents(signal?: AbortSignal): Promise<number>;
  /** The state of the queue, for monitoring. */
  queueStatus(): Promise<QueueStatus>;
  /** The order in which jobs start. */
  queue: FairQueue;
  checkpoints: JobCheckpoints;
  inputs: InputJobs;
  adapterBytes: AdapterBytes;
  /** The attempts, for workers. */
  attempts: JobAttempts;
  machines: MachineBoard;
  sweeps: SweepStore;
  /** The messages that are to be sent when jobs end. */
  webhooks: WebhookOutbox;
  /** The answers that webhooks of graders are to reward. */
  gradings: Gradings;
  /** Makes records and queue consistent again after a process died. Workers call it regularly. */
  reconcile(): Promise<Reconciled>;
  /** Closes the connections that the store has opened. */
  close(): Promise<void>;
}

export function createJobStore(options: JobStoreOptions): JobStore {
  const { redis, prefix = 'lorasmith:', onQueueError = () => {}, turnMs = DEFAULT_TURN_MS, clock } = options;
  const keys = jobKeys(prefix);
  const deps = { redis, keys, clock };
  const queue = createJobQueue({ redis, prefix: keys.queuePrefix });
  // All waiting readers of events share one extra connection.
  const notices = createEventNotices({ redis, channel: keys.eventChannel });
  const events = createEventStream<JobEvent>({
    redis,
    notices,
    record: keys.job,
    events: keys.events,
    eventOf: (job, { id, ...event }) => ({ id, job, ...event }) as JobEvent,
    missing: (id) => new ProductError('job_not_found', `There is no job ${id}.`),
  });

  const getJob = async (id: JobId) => jobOfRecord(id, await redis.hgetall(keys.job(id)));

  const existingJob = async (id: JobId): Promise<Job> => {
    const job = await getJob(id);
    if (job === null) throw new ProductError('job_not_found', `There is no job ${id}.`);
    return job;
  };

  /** The record is written whether or not this succeeds; `reconcile` repeats what failed here. */
  const onQueue = async (id: JobId, change: Promise<void>) => {
    try {
      await change;
    } catch (error) {
      onQueueError(id, error);
    }
  };

  /** A failure does not affect the new job; the next job removes the old ones. */
  const removeOldest = async (index: string, limit: number | undefined) => {
    if (limit === undefined) return;
    const removed = endedBeyond({ redis, keys }, index, limit).then((ids) =>
      Promise.allSettled(ids.map(store.deleteJob)),
    );
    await removed.catch(() => {});
  };

  const fair = createFairQueue({ ...deps, queue, turnMs, starts: createWorkerStarts(deps) });
  const store: JobStore = {
    async createJob(
      spec,
      { idempotencyKey, requestHash, origin, owner = null, adapterBytes = 0, planned = UNPLANNED, ...options },
    ) {
      const { task = { kind: 'train' }, details = NO_DETAILS, ...limits } = options;
      const { maxOfOwner, maxWaiting, keptOfOwner, keptInAll } = limits;
      const newId = newIdentifier('job');
      const createdAt = new Date();
      const answer = await createJobScript(
        deps,
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
          max_waiting: maxWaiting ?? '',
          max_of_owner: maxOfOwner ?? '',
          facts: searchFacts(spec, createdAt),
          searched_name: searchedName(spec.name),
          searched_tags: searchedTags(details.tags),
        },
        newRecordFields(spec, createdAt, { owner, origin, idempotencyKey, adapterBytes, planned, task, details }),
      );
      if (answer === 'conflict') throw idempotencyConflict('job');
      throwIfNotAdmitted(spec, answer, limits);
      const created = answer === 'created';
      const job = await existingJob(created ? newId : String(answer));
      // Also for a repeated request: the process of the first one may have died before this line.
      if (job.status === 'queued') await onQueue(job.id, queue.add(queueEntryOf(job)));
      if (created) {
        await removeOldest(keys.ofOwner(owner), keptOfOwner);
        await removeOldest(keys.all, keptInAll);
      }
      return { job, created };
    },

    getJob,

    async repeatedJob({ idempotencyKey, requestHash, owner = null }) {
      const [id, hash] = await redis.hmget(keys.idempotency(idempotencyKey, owner), 'job', 'hash');
      if (!id) return null;
      if (hash !== requestHash) throw idempotencyConflict('job');
      const job = await getJob(id);
      // As in createJob: the process of the first request may have died before it queued the job.
      if (job?.status === 'queued') await onQueue(job.id, queue.add(queueEntryOf(job)));
      return job;
    },

    async ownerOf(id) {
      const [dataset, owner] = await redis.hmget(keys.job(id), 'dataset', 'owner');
      return dataset ? (owner ?? null) : undefined;
    },

    listJobs: (page = {}) => listJobs({ redis, keys }, page),

    async changeDetails(id, change) {
      await changeJobDetails({ redis, keys }, id, change);
      return await existingJob(id);
    },

    async requestCancel(id, { stoppedAtRung } = {}) {
      const job = await existingJob(id);
      const request = { now: new Date().toISOString(), rung: stoppedAtRung ?? '' };
      const answer = await requestCancelScript(deps, job, {}, request);
      if (answer === 'publishing') {
        throw new ProductError('job_not_cancellable', 'The training has finished and the adapter is being published.');
      }
      if (answer === 'ended') {
        throw new ProductError('job_not_cancellable', 'The job has ended. Only an unfinished job can be cancelled.');
      }
      if (answer === 'cancelled') await onQueue(id, queue.remove(queueEntryOf(job)));
      return await existingJob(id);
    },

    async requestPause(id) {
      const job = await existingJob(id);
      const answer = await requestPauseScript(deps, job, {}, { now: new Date().toISOString() });
      const refusal = NOT_PAUSABLE[String(answer)];
      if (refusal !== undefined) throw new ProductError('job_not_pausable', refusal);
      if (answer === 'paused') await onQueue(id, queue.remove(queueEntryOf(job)));
      return await existingJob(id);
    },

    async resumeJob(id, { onlyPaused = false, ...limits } = {}) {
      const { maxOfOwner, maxWaiting } = limits;
      const ended = await existingJob(id);
      const answer = await resumeJobScript(
        deps,
        ended,
        { owner_jobs: keys.ofOwner(ended.owner), ...deletionKeys(keys, ended), cleanup: keys.cleanup(id) },
        {
          max_waiting: maxWaiting ?? '',
          max_of_owner: maxOfOwner ?? '',
          only_paused: onlyPaused ? 'yes' : 'no',
        },
      );
      throwIfNotAdmitted(ended, answer, limits);
      if (answer === 'in-cleanup') throw inCleanup();
      const job = await existingJob(id);
      if (answer === 'withdrawn') return job;
      if (answer !== 'done') throw notResumable(answer as JobStatus);
      await onQueue(id, queue.add(queueEntryOf(job)));
      return job;
    },

    whileEnded: (id, statuses, work) => whileEnded({ redis, keys }, id, statuses, work),
    whenDue: (shared, work) => whenDue({ redis, keys }, shared, work),

    async deleteJob(id) {
      const job = await readInputs(deps, id);
      const fields = ['idempotency_key', 'owner', 'resumes'] as const;
      const [idempotencyKey, ownerId, resumes] = await redis.hmget(keys.job(id), ...fields);
      const owner = ownerId ?? null;
      if (job === null) throw new ProductError('job_not_found', `There is no job ${id}.`);
      const answer = await deleteJobScript(
        deps,
        job,
        {
          all_jobs: keys.all,
          owner_jobs: keys.ofOwner(owner),
          search_facts: keys.searchFacts,
          idempotency: keys.idempotency(idempotencyKey ?? '', owner),
        },
        {},
      );
      if (answer === 'missing') throw new ProductError('job_not_found', `There is no job ${id}.`);
      if (answer === 'active') {
        throw new ProductError('job_still_active', 'The job has not ended. Cancel it first.');
      }
      await onQueue(id, queue.remove(queueEntryOf({ id, resumes: Number(resumes) })));
    },

    readEvents: (id, readOptions) => events.read(id, readOptions),
    newestEvents: (id, newestOptions) => events.newest(id, newestOptions),
    thinEvents: (signal) => thinEvents(deps, signal),
    queueStatus: () => readQueueStatus({ redis, keys }),
    queue: fair,
    checkpoints: createJobCheckpoints(deps),
    inputs: createInputJobs({ redis, keys }),
    adapterBytes: createAdapterBytes({ redis, keys }),
    attempts: createJobAttempts(deps),
    machines: createMachineBoard({ redis, keys, running: fair.presences }),
    sweeps: createSweepStore({ ...deps, queue, notices, onQueue, removeOldestJobs: removeOldest }),
    webhooks: createWebhookOutbox({ redis, keys }),
    gradings: createGradings({ redis, keys }),
    reconcile: () => reconcileQueue({ ...deps, queue }),

    async close() {
      notices.close();
      store.gradings.close();
      await queue.close();
    },
  };
  // An error thrown by `work` is not an error of Redis.
  const { whileEnded: ended, whenDue: due, close } = store;
  const guards = guarded(store);
  return {
    ...guards,
    queue: { ...guards.queue, locked: store.queue.locked },
    gradings: { ...guards.gradings, listen: store.gradings.listen },
    whileEnded: ended,
    whenDue: due,
    close,
  };
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

/** The same methods, including those of nested groups, with every failure of Redis turned into `redis_unavailable`. */
function guarded<Methods extends object>(methods: Methods): Methods {
  const entries = Object.entries(methods).map(([name, member]): [string, unknown] => [
    name,
    typeof member === 'function'
      ? (...args: unknown[]) => onRedis(async () => await member(...args))
      : guarded(member as object),
  ]);
  return Object.fromEntries(entries) as Methods;
}
