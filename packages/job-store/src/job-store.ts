import {
  type DatasetId,
  type Job,
  type JobEvent,
  type JobId,
  type JobSpec,
  type JobStatus,
  newIdentifier,
  type Paged,
  ProductError,
} from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import { createEventStream, type ReadEventsOptions } from './event-stream.js';
import { createJobAttempts, type JobAttempts } from './job-attempts.js';
import { createJobQueue } from './job-queue.js';
import { jobOfRecord, newRecordFields } from './job-record.js';
import { jobKeys } from './keys.js';
import { createMachineBoard, type MachineBoard } from './machine-board.js';
import { type Reconciled, reconcileQueue } from './reconcile-queue.js';
import { onRedis, repliesOf } from './redis-errors.js';
import { createJobScript } from './scripts/create-job.js';
import { deleteJobScript } from './scripts/delete-job.js';
import { recordKeys } from './scripts/record-keys.js';
import { requestCancelScript } from './scripts/request-cancel.js';

/** How long an idempotency key is remembered. */
const IDEMPOTENCY_SECONDS = 24 * 3600;

export interface JobStoreOptions {
  /** Stays the caller's to close. How long calls wait while Redis is away is this connection's setting. */
  redis: Redis;
  /** Every key begins with it. @defaultValue `lorasmith:` */
  prefix?: string;
  /** Told when a job was recorded but could not be queued; a worker's {@link JobStore.reconcile} queues it. */
  onQueueError?: (id: JobId, error: unknown) => void;
}

export interface CreateJobOptions {
  /** The same key and the same hash: the job that it made before. Remembered for a day. */
  idempotencyKey?: string | undefined;
  /** Digest of the request, to tell a repeated one from another with the same key. */
  requestHash: string;
}

export interface ListJobsOptions {
  status?: JobStatus | undefined;
  /** Id of the last job of the page before. */
  after?: JobId | undefined;
  /** @defaultValue 20 */
  limit?: number | undefined;
}

/**
 * The jobs: their records, which are the truth for users, their events, and the queue that hands them to workers.
 *
 * Every call throws ProductError `redis_unavailable` when Redis does not answer.
 */
export interface JobStore {
  /** @throws ProductError `idempotency_conflict` */
  createJob(spec: JobSpec, options: CreateJobOptions): Promise<{ job: Job; created: boolean }>;
  getJob(id: JobId): Promise<Job | null>;
  /** Newest first. @throws ProductError `invalid_request` when there is no job `after` */
  listJobs(options?: ListJobsOptions): Promise<Paged<Job>>;
  /**
   * A waiting job is cancelled when this returns; one that runs, once its worker has confirmed it.
   * @throws ProductError `job_not_found`, `job_not_cancellable`
   */
  requestCancel(id: JobId): Promise<Job>;
  /** @throws ProductError `job_not_found`, `job_still_active` */
  deleteJob(id: JobId): Promise<void>;
  /** The unfinished jobs that read this dataset. */
  activeJobsOfDataset(id: DatasetId): Promise<JobId[]>;
  /** Events oldest first. @throws ProductError `job_not_found`, `invalid_request` */
  readEvents(id: JobId, options?: ReadEventsOptions): Promise<Paged<JobEvent>>;
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

  const store: JobStore = {
    async createJob(spec, { idempotencyKey, requestHash }) {
      const newId = newIdentifier('job');
      const scriptKeys = [...recordKeys(keys, newId, spec.dataset), keys.all, keys.sequence];
      if (idempotencyKey !== undefined) scriptKeys.push(keys.idempotency(idempotencyKey));
      const answer = await createJobScript(redis, scriptKeys, [
        newId,
        keys.eventChannel,
        requestHash,
        IDEMPOTENCY_SECONDS,
        ...newRecordFields(spec, new Date(), idempotencyKey),
      ]);
      if (answer === 'conflict') {
        throw new ProductError(
          'idempotency_conflict',
          'This Idempotency-Key was used with another request. Use a new key for a new job.',
        );
      }
      const created = answer === 'created';
      const job = await existingJob(created ? newId : String(answer));
      // Also for a repeated request: the first one may have died before it came here.
      if (job.status === 'queued') await tellQueue(job.id, queue.add(job.id));
      return { job, created };
    },

    getJob,

    async listJobs({ status, after, limit = 20 } = {}) {
      const index = status === undefined ? keys.all : keys.withStatus(status);
      let before = '+inf';
      if (after !== undefined) {
        const sequence = await redis.hget(keys.job(after), 'sequence');
        if (sequence === null) {
          throw new ProductError('invalid_request', `There is no job ${after}. Begin again at the first page.`, {
            param: 'after',
          });
        }
        before = `(${sequence}`;
      }
      const ids = await redis.zrevrangebyscore(index, before, '-inf', 'LIMIT', 0, limit + 1);
      const page = ids.slice(0, limit);
      const pipeline = redis.pipeline();
      for (const id of page) pipeline.hgetall(keys.job(id));
      const records = repliesOf(await pipeline.exec()) as Record<string, string>[];
      // A job deleted since the list was read has no record any more; one that changed its status is shown as it is.
      const data = records.flatMap((record, i) => jobOfRecord(page[i] as JobId, record) ?? []);
      const has_more = ids.length > limit;
      return { data, has_more, next: has_more ? (data.at(-1)?.id ?? null) : null };
    },

    async requestCancel(id) {
      const { dataset } = await existingJob(id);
      const answer = await requestCancelScript(redis, recordKeys(keys, id, dataset), [
        id,
        keys.eventChannel,
        new Date().toISOString(),
      ]);
      if (answer === 'publishing') {
        throw new ProductError('job_not_cancellable', 'The training is over and the adapter is being published.');
      }
      if (answer === 'ended') {
        throw new ProductError('job_not_cancellable', 'The job has ended. Only a job that waits or runs is cancelled.');
      }
      if (answer === 'cancelled') await tellQueue(id, queue.remove(id));
      return await existingJob(id);
    },

    async deleteJob(id) {
      const [dataset, idempotencyKey] = await redis.hmget(keys.job(id), 'dataset', 'idempotency_key');
      if (!dataset) throw new ProductError('job_not_found', `There is no job ${id}.`);
      const scriptKeys = [...recordKeys(keys, id, dataset), keys.all];
      if (idempotencyKey) scriptKeys.push(keys.idempotency(idempotencyKey));
      const answer = await deleteJobScript(redis, scriptKeys, [id]);
      if (answer === 'missing') throw new ProductError('job_not_found', `There is no job ${id}.`);
      if (answer === 'active') {
        throw new ProductError('job_still_active', 'The job has not ended. Cancel it first.');
      }
      await tellQueue(id, queue.remove(id));
    },

    activeJobsOfDataset: (id) => redis.smembers(keys.activeOfDataset(id)),
    readEvents: (id, readOptions) => events.read(id, readOptions),
    attempts: createJobAttempts({ redis, keys }),
    machines: createMachineBoard({ redis, keys }),
    reconcile: () => reconcileQueue({ redis, keys, queue }),

    async close() {
      events.close();
      await queue.close();
    },
  };
  return { ...guarded(store), attempts: guarded(store.attempts), close: () => store.close() };
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
