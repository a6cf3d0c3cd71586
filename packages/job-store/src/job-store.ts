import {
  type Checkpoint,
  type DatasetId,
  ENDED_STATUSES,
  type Job,
  type JobEvent,
  type JobId,
  type JobSpec,
  type JobStatus,
  type JobTask,
  newIdentifier,
  type Owner,
  type Paged,
  ProductError,
} from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import { createEventStream, type ReadEventsOptions } from './event-stream.js';
import { createJobAttempts, type JobAttempts } from './job-attempts.js';
import { whileEnded } from './job-cleanup.js';
import {
  endedBeyond,
  jobsBeingPublished,
  type ListJobsOptions,
  listJobs,
  type QueueStatus,
  readQueueStatus,
} from './job-index.js';
import { createJobQueue, queueEntryOf } from './job-queue.js';
import { checkpointsOfRecord, type JobOrigin, jobOfRecord, newRecordFields } from './job-record.js';
import { jobKeys } from './keys.js';
import { createMachineBoard, type MachineBoard } from './machine-board.js';
import { type BaseModelPreference, preferBaseModel } from './prefer-base-model.js';
import { type Reconciled, reconcileQueue } from './reconcile-queue.js';
import { changeRecord, type RecordChange } from './record-change.js';
import { onRedis } from './redis-errors.js';
import { createJobScript } from './scripts/create-job.js';
import { deleteJobScript } from './scripts/delete-job.js';
import { luaScript } from './scripts/lua-script.js';
import { recordKeys } from './scripts/record-part.js';
import { requestCancelScript } from './scripts/request-cancel.js';
import { resumeJobScript } from './scripts/resume-job.js';

/** How long an idempotency key is remembered. */
const IDEMPOTENCY_SECONDS = 24 * 3600;
const DATASET_DELETION_SECONDS = 60;

/** Answers the unfinished jobs that read the dataset. If there are none, no job can start to read it for some seconds. */
const beginDatasetDeletionScript = luaScript({
  keys: ['dataset_jobs', 'dataset_deletion'],
  arguments: ['seconds'],
  lua: `
local readers = redis.call('SMEMBERS', dataset_jobs)
if #readers == 0 then redis.call('SET', dataset_deletion, '1', 'EX', seconds) end
return readers
`,
});

/** Answers the bytes reserved for an owner ('' for nobody), and for all, as decimal text. */
const reservedBytesScript = luaScript({
  keys: ['reserved_bytes'],
  arguments: ['owner'],
  lua: `
local own, total = 0, 0
for _, reserved in ipairs(redis.call('HVALS', reserved_bytes)) do
  local bytes, job_owner = string.match(reserved, '^(%d+):(.*)$')
  total = total + tonumber(bytes)
  if job_owner == owner then own = own + tonumber(bytes) end
end
return {string.format('%.0f', own), string.format('%.0f', total)}
`,
});

export interface JobStoreOptions {
  /** Stays the caller's to close. How long calls wait while Redis is away is this connection's setting. */
  redis: Redis;
  /** Every key begins with it. @defaultValue `lorasmith:` */
  prefix?: string;
  /** Told when a job was recorded but could not be queued; a worker's {@link JobStore.reconcile} queues it. */
  onQueueError?: (id: JobId, error: unknown) => void;
}

export interface JobLimits {
  /** Most unfinished jobs of the owner, this one among them. @defaultValue no limit */
  maxOfOwner?: number | undefined;
  /** Most jobs that wait for a worker, this one among them. @defaultValue no limit */
  maxWaiting?: number | undefined;
}

export interface CreateJobOptions extends JobLimits {
  /** Most ended jobs that are kept of the owner; the oldest beyond them are removed. @defaultValue all */
  keptOfOwner?: number | undefined;
  /** Most ended jobs that are kept of everybody. @defaultValue all */
  keptInAll?: number | undefined;
  /** The same key and the same hash: the job that it made before. Remembered for a day. */
  idempotencyKey?: string | undefined;
  /** Digest of the request, to tell a repeated one from another with the same key. */
  requestHash: string;
  /** For logs and traces. @defaultValue unknown */
  origin?: JobOrigin | undefined;
  /** @defaultValue it trains */
  task?: JobTask | undefined;
  /** Whose job it is. @defaultValue null: nobody's */
  owner?: Owner | undefined;
  /** The limit of the size of its adapter, reserved until the job has ended. @defaultValue 0 */
  adapterBytes?: number | undefined;
}

/**
 * The jobs: their records, which are the truth for users, their events, and the queue that hands them to workers.
 *
 * Every call throws ProductError `redis_unavailable` when Redis does not answer.
 */
export interface JobStore {
  /** @throws ProductError `idempotency_conflict`, `quota_exceeded`, `queue_full` */
  createJob(spec: JobSpec, options: CreateJobOptions): Promise<{ job: Job; created: boolean }>;
  getJob(id: JobId): Promise<Job | null>;
  /**
   * The job that a request with this key made before; null for a new key.
   * @throws ProductError `idempotency_conflict` when it was another request
   */
  repeatedJob(
    options: Pick<CreateJobOptions, 'requestHash' | 'owner'> & { idempotencyKey: string },
  ): Promise<Job | null>;
  /** Whose job it is; undefined where there is none. */
  ownerOf(id: JobId): Promise<Owner | undefined>;
  /** Newest first. @throws ProductError `invalid_request` when there is no job `after` */
  listJobs(options?: ListJobsOptions): Promise<Paged<Job>>;
  /**
   * A waiting job is cancelled when this returns; one that runs, once its worker has confirmed it.
   * @throws ProductError `job_not_found`, `job_not_cancellable`
   */
  requestCancel(id: JobId): Promise<Job>;
  /**
   * Puts a failed or cancelled job back among the waiting; it goes on from its last checkpoint.
   * @throws ProductError `job_not_found`, `job_not_resumable`, `quota_exceeded`, `queue_full`
   */
  resumeJob(id: JobId, limits?: JobLimits): Promise<Job>;
  /** Those that are kept, newest first. @throws ProductError `job_not_found` */
  checkpoints(id: JobId): Promise<Checkpoint[]>;
  /** Says of an ended job that none is kept any more. @returns false, and nothing changed, where it has not ended */
  forgetCheckpoints(id: JobId): Promise<boolean>;
  /**
   * Does the work on what the job left, while it has one of these statuses with which it ended: it is not resumed
   * meanwhile, unless this process stands still for a minute.
   * @returns null, and nothing was done, where it has another status or somebody else is at it
   */
  whileEnded<Result>(id: JobId, statuses: readonly JobStatus[], work: () => Promise<Result>): Promise<Result | null>;
  /** @throws ProductError `job_not_found`, `job_still_active` */
  deleteJob(id: JobId): Promise<void>;
  /** The limit of the size of the job's adapter; 0 where there is no job. */
  adapterBytesOf(id: JobId): Promise<number>;
  /** What the adapters of unfinished jobs will take at most: those of the owner, and all. */
  reservedBytes(owner: Owner): Promise<{ own: number; total: number }>;
  /** The jobs of whose checkpoints unfinished ones make an adapter. */
  jobsBeingPublished(): Promise<Set<JobId>>;
  /** The unfinished jobs that read this dataset. */
  activeJobsOfDataset(id: DatasetId): Promise<JobId[]>;
  /**
   * Asked for before a dataset is deleted: from then on no job can begin to read it, for a minute, which is longer than
   * anybody who saw it there takes to make a job of it.
   * @returns the unfinished jobs that read it; then nothing has changed
   */
  beginDatasetDeletion(id: DatasetId): Promise<JobId[]>;
  /** Jobs can be made on the dataset again, because it was stored anew. */
  allowDataset(id: DatasetId): Promise<void>;
  /** Events oldest first. @throws ProductError `job_not_found`, `invalid_request` */
  readEvents(id: JobId, options?: ReadEventsOptions): Promise<Paged<JobEvent>>;
  /** For whoever watches the service. */
  queueStatus(): Promise<QueueStatus>;
  /**
   * For workers: makes the first waiting job on a base model the next one, unless a job before it has waited too long.
   * @returns the job that was moved; null where the order stays
   */
  preferBaseModel(preference: BaseModelPreference): Promise<JobId | null>;
  /** For workers. */
  attempts: JobAttempts;
  machines: MachineBoard;
  /** Mends what a died process left between record and queue. For workers: at their start and every now and then. */
  reconcile(): Promise<Reconciled>;
  /** Closes what the store opened itself. */
  close(): Promise<void>;
}

export function createJobStore(options: JobStoreOptions): JobStore {
  const { redis, prefix = 'lorasmith:', onQueueError = () => {} } = options;
  const keys = jobKeys(prefix);
  const queue = createJobQueue({ redis, prefix: keys.queuePrefix });
  const events = createEventStream({ redis, keys });

  const getJob = async (id: JobId) => jobOfRecord(id, await redis.hgetall(keys.job(id)));

  const existingJob = async (id: JobId): Promise<Job> => {
    const job = await getJob(id);
    if (job === null) throw new ProductError('job_not_found', `There is no job ${id}.`);
    return job;
  };

  /** The record stands whether or not this works; what is missing here is mended by `reconcile`. */
  const tellQueue = async (id: JobId, tell: Promise<void>) => {
    try {
      await tell;
    } catch (error) {
      onQueueError(id, error);
    }
  };

  /** What goes wrong here is no matter of the job that was made: the next one removes them. */
  const removeOldest = async (index: string, most: number | undefined) => {
    if (most === undefined) return;
    const removed = endedBeyond({ redis, keys }, index, most).then((ids) =>
      Promise.allSettled(ids.map(store.deleteJob)),
    );
    await removed.catch(() => {});
  };

  const store: JobStore = {
    async createJob(
      spec,
      { idempotencyKey, requestHash, origin, owner = null, adapterBytes = 0, task = { kind: 'train' }, ...limits },
    ) {
      const { maxOfOwner, maxWaiting, keptOfOwner, keptInAll } = limits;
      const newId = newIdentifier('job');
      const answer = await createJobScript(
        redis,
        {
          ...recordKeys(keys, newId, spec.dataset),
          all_jobs: keys.all,
          sequence_counter: keys.sequence,
          owner_jobs: keys.ofOwner(owner),
          dataset_deletion: keys.datasetDeletion(spec.dataset),
          idempotency: keys.idempotency(idempotencyKey ?? '', owner),
        },
        {
          id: newId,
          event_channel: keys.eventChannel,
          kind: task.kind,
          request_hash: requestHash,
          idempotency_seconds: idempotencyKey === undefined ? '' : IDEMPOTENCY_SECONDS,
          max_waiting: maxWaiting ?? '',
          max_of_owner: maxOfOwner ?? '',
        },
        newRecordFields(spec, new Date(), { owner, origin, idempotencyKey, adapterBytes, task }),
      );
      if (answer === 'conflict') throw idempotencyConflict();
      if (answer === 'no-dataset') throw datasetGone(spec.dataset);
      if (answer === 'owner-full') throw ownerFull(maxOfOwner);
      if (answer === 'queue-full') throw queueFull(maxWaiting);
      const created = answer === 'created';
      const job = await existingJob(created ? newId : String(answer));
      // Also for a repeated request: the first one may have died before it came here.
      if (job.status === 'queued') await tellQueue(job.id, queue.add(queueEntryOf(job)));
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
      if (hash !== requestHash) throw idempotencyConflict();
      const job = await getJob(id);
      // As after a creation: the first request may have died between the two.
      if (job?.status === 'queued') await tellQueue(job.id, queue.add(queueEntryOf(job)));
      return job;
    },

    async ownerOf(id) {
      const [dataset, owner] = await redis.hmget(keys.job(id), 'dataset', 'owner');
      return dataset ? (owner ?? null) : undefined;
    },

    listJobs: (page = {}) => listJobs({ redis, keys }, page),

    async requestCancel(id) {
      const job = await existingJob(id);
      const answer = await requestCancelScript(redis, recordKeys(keys, id, job.dataset), {
        id,
        event_channel: keys.eventChannel,
        now: new Date().toISOString(),
      });
      if (answer === 'publishing') {
        throw new ProductError('job_not_cancellable', 'The training is over and the adapter is being published.');
      }
      if (answer === 'ended') {
        throw new ProductError('job_not_cancellable', 'The job has ended. Only a job that waits or runs is cancelled.');
      }
      if (answer === 'cancelled') await tellQueue(id, queue.remove(queueEntryOf(job)));
      return await existingJob(id);
    },

    async resumeJob(id, { maxOfOwner, maxWaiting } = {}) {
      const { dataset, owner } = await existingJob(id);
      const answer = await resumeJobScript(
        redis,
        {
          ...recordKeys(keys, id, dataset),
          owner_jobs: keys.ofOwner(owner),
          dataset_deletion: keys.datasetDeletion(dataset),
          cleanup: keys.cleanup(id),
        },
        {
          id,
          event_channel: keys.eventChannel,
          max_waiting: maxWaiting ?? '',
          max_of_owner: maxOfOwner ?? '',
        },
      );
      if (answer === 'no-dataset') throw datasetGone(dataset);
      if (answer === 'owner-full') throw ownerFull(maxOfOwner);
      if (answer === 'queue-full') throw queueFull(maxWaiting);
      if (answer === 'in-cleanup') throw inCleanup();
      const job = await existingJob(id);
      if (answer !== 'done') throw notResumable(answer as JobStatus);
      await tellQueue(id, queue.add(queueEntryOf(job)));
      return job;
    },

    async checkpoints(id) {
      const [dataset, checkpoints] = await redis.hmget(keys.job(id), 'dataset', 'checkpoints');
      if (!dataset) throw new ProductError('job_not_found', `There is no job ${id}.`);
      return checkpointsOfRecord(checkpoints);
    },

    async forgetCheckpoints(id) {
      const job = await getJob(id);
      if (job === null) return false;
      const change = { fields: [['checkpoints', '[]']] satisfies RecordChange['fields'] };
      return (await changeRecord({ redis, keys }, job, null, ENDED_STATUSES, change)) === 'done';
    },

    whileEnded: (id, statuses, work) => whileEnded({ redis, keys }, id, statuses, work),

    async deleteJob(id) {
      const fields = ['dataset', 'idempotency_key', 'owner', 'resumes'] as const;
      const [dataset, idempotencyKey, ownerId, resumes] = await redis.hmget(keys.job(id), ...fields);
      const owner = ownerId ?? null;
      if (!dataset) throw new ProductError('job_not_found', `There is no job ${id}.`);
      const answer = await deleteJobScript(
        redis,
        {
          ...recordKeys(keys, id, dataset),
          all_jobs: keys.all,
          owner_jobs: keys.ofOwner(owner),
          idempotency: keys.idempotency(idempotencyKey ?? '', owner),
        },
        { id, event_channel: keys.eventChannel },
      );
      if (answer === 'missing') throw new ProductError('job_not_found', `There is no job ${id}.`);
      if (answer === 'active') {
        throw new ProductError('job_still_active', 'The job has not ended. Cancel it first.');
      }
      await tellQueue(id, queue.remove(queueEntryOf({ id, resumes: Number(resumes) })));
    },

    adapterBytesOf: async (id) => Number(await redis.hget(keys.job(id), 'adapter_bytes')),
    async reservedBytes(owner) {
      const scriptKeys = { reserved_bytes: keys.reservedBytes };
      const answer = (await reservedBytesScript(redis, scriptKeys, { owner: owner ?? '' })) as [string, string];
      return { own: Number(answer[0]), total: Number(answer[1]) };
    },
    jobsBeingPublished: () => jobsBeingPublished({ redis, keys }),
    activeJobsOfDataset: (id) => redis.smembers(keys.activeOfDataset(id)),
    async beginDatasetDeletion(id) {
      const scriptKeys = { dataset_jobs: keys.activeOfDataset(id), dataset_deletion: keys.datasetDeletion(id) };
      return (await beginDatasetDeletionScript(redis, scriptKeys, { seconds: DATASET_DELETION_SECONDS })) as JobId[];
    },
    async allowDataset(id) {
      await redis.del(keys.datasetDeletion(id));
    },
    readEvents: (id, readOptions) => events.read(id, readOptions),
    queueStatus: () => readQueueStatus({ redis, keys }),
    preferBaseModel: (preference) => preferBaseModel({ redis, keys, queue }, preference),
    attempts: createJobAttempts({ redis, keys }),
    machines: createMachineBoard({ redis, keys }),
    reconcile: () => reconcileQueue({ redis, keys, queue }),

    async close() {
      events.close();
      await queue.close();
    },
  };
  const { attempts, close } = store;
  // What `work` throws is not an error of Redis.
  return { ...guarded(store), attempts: guarded(attempts), whileEnded: store.whileEnded, close };
}

function idempotencyConflict(): ProductError {
  const message = 'This Idempotency-Key was used with another request. Use a new key for a new job.';
  return new ProductError('idempotency_conflict', message);
}

function datasetGone(id: DatasetId): ProductError {
  const message = `The dataset ${id} was deleted just now. Upload it again to train on it.`;
  return new ProductError('dataset_not_found', message, { param: 'dataset' });
}

function notResumable(status: JobStatus): ProductError {
  const message =
    status === 'succeeded'
      ? 'The job has succeeded. Publish one of its checkpoints, or make a job with init_from to train its adapter further.'
      : `The job is ${status}: it is going on already.`;
  return new ProductError('job_not_resumable', message);
}

function inCleanup(): ProductError {
  return new ProductError('job_not_resumable', 'The files of the job are being removed. Try again in a minute.');
}

function ownerFull(most: number | undefined): ProductError {
  const message = `This key has ${most} unfinished jobs, as many as it may. Await or cancel one first.`;
  return new ProductError('quota_exceeded', message);
}

function queueFull(most: number | undefined): ProductError {
  return new ProductError('queue_full', `${most} jobs wait for a worker already. Try again later.`);
}

/** The same object with every method's Redis trouble turned into `redis_unavailable`. */
function guarded<Methods extends object>(methods: Methods): Methods {
  return Object.fromEntries(
    Object.entries(methods).map(([name, method]) => [
      name,
      typeof method === 'function' ? (...args: unknown[]) => onRedis(async () => await method(...args)) : method,
    ]),
  ) as Methods;
}
