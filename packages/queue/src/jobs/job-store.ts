import type { JobEvent, JobId, Paged } from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import { ComparisonStore } from '../comparisons/comparison-store.js';
import { DeliveryStore } from '../deliveries/delivery-store.js';
import { EventStream, type NewestEventsOptions, type ReadEventsOptions } from '../events/event-stream.js';
import { thinEvents } from '../events/thinned-events.js';
import { jobKeys } from '../keys.js';
import { Gradings } from '../outbox/gradings.js';
import { WebhookOutbox } from '../outbox/webhook-outbox.js';
import { FairQueue } from '../queue/fair-queue.js';
import { JobQueue } from '../queue/job-queue.js';
import { type Reconciled, reconcileQueue } from '../queue/reconcile-queue.js';
import { createEventNotices } from '../redis/event-notices.js';
import { type SharedWork, whenDue } from '../redis/lease.js';
import { guarded, onRedis, type Public } from '../redis/redis-errors.js';
import { SweepStore } from '../sweeps/sweep-store.js';
import { MachineBoard } from '../workers/worker-reports.js';
import { EndedJobs } from './ended-jobs.js';
import { AdapterBytes, InputJobs } from './job-admission.js';
import { JobAttempts } from './job-attempts.js';
import { JobChanges } from './job-changes.js';
import { JobCheckpoints } from './job-checkpoints.js';
import { JobCreation } from './job-creation.js';
import { JobList } from './job-list.js';
import { jobMissing } from './job-record.js';

/** The time for which jobs on a base model may go before those on another. */
export const DEFAULT_TIME_SLICE_MS = 600_000;

export interface JobStoreOptions {
  /** The caller closes it. Its settings decide how long calls wait while Redis is unavailable. */
  redis: Redis;
  /** Every key starts with it. @defaultValue `lorasmith:` */
  prefix?: string;
  /** Called if a job was recorded but could not be queued. A worker's {@link JobStore.reconcile} queues it later. */
  onQueueError?: (id: JobId, error: unknown) => void;
  /** The time for which a worker may stay on its base model while others wait for another one. @defaultValue 600 000 */
  timeSliceMs?: number;
  /** The clock of the queue, in milliseconds. @defaultValue that of Redis */
  clock?: (() => number) | undefined;
}

/**
 * Jobs: their records, which are the source of truth, their events, and the queue that hands them to workers.
 *
 * Every call throws ProductError `redis_unavailable` if Redis cannot be reached.
 */
export interface JobStore
  extends Public<JobCreation>,
    Public<JobChanges>,
    Public<JobList>,
    Pick<EndedJobs, 'whileEnded'> {
  /**
   * Does work that one process does for all, unless another does it or it is not due yet. It must be safe if two do it.
   * @param work - Receives a signal that ends it early.
   * @returns null, without running `work`, if it is not due
   */
  whenDue<Result>(shared: SharedWork, work: (signal: AbortSignal) => Promise<Result>): Promise<Result | null>;
  /** Oldest first. @throws ProductError `job_not_found`, `invalid_request` */
  readEvents(id: JobId, options?: ReadEventsOptions): Promise<Paged<JobEvent>>;
  /** Newest first; `next` is the `after` of the next page. @throws ProductError `job_not_found`, `invalid_request` */
  newestEvents(id: JobId, options: NewestEventsOptions): Promise<Paged<JobEvent>>;
  /** Thins the events of jobs that ended a while ago. Workers call it regularly. @returns how many jobs */
  thinEvents(signal?: AbortSignal): Promise<number>;
  /** Makes records and queue consistent again after a process died. Workers call it regularly. */
  reconcile(): Promise<Reconciled>;
  /** The order in which jobs start. */
  queue: Public<FairQueue>;
  checkpoints: Public<JobCheckpoints>;
  inputs: Public<InputJobs>;
  adapterBytes: Public<AdapterBytes>;
  /** The attempts, for workers. */
  attempts: Public<JobAttempts>;
  machines: Public<MachineBoard>;
  sweeps: Public<SweepStore>;
  /** The messages that are to be sent when jobs end. */
  webhooks: Public<WebhookOutbox>;
  /** Adapters on their way to where they are used. */
  deliveries: Public<DeliveryStore>;
  /** Comparisons of two models, judged by a third. */
  comparisons: Public<ComparisonStore>;
  /** The answers that webhooks of graders are to reward. */
  gradings: Public<Gradings>;
  /** Closes the connections that the store has opened. */
  close(): Promise<void>;
}

export function createJobStore({
  redis,
  prefix = 'lorasmith:',
  onQueueError = () => {},
  timeSliceMs = DEFAULT_TIME_SLICE_MS,
  clock,
}: JobStoreOptions): JobStore {
  const keys = jobKeys(prefix);
  const deps = { redis, keys, clock };
  const queue = new JobQueue({ redis, prefix: keys.queuePrefix, onError: onQueueError });
  // All waiting readers of events share one extra connection.
  const notices = createEventNotices({ redis, channel: keys.eventChannel });
  const events = new EventStream<JobEvent>({
    redis,
    notices,
    record: keys.job,
    events: keys.events,
    eventOf: (job, { id, ...event }) => ({ id, job, ...event }) as JobEvent,
    missing: jobMissing,
  });
  const changes = new JobChanges(deps, queue);
  const ended = new EndedJobs(deps, (id) => changes.deleteJob(id));
  const fair = new FairQueue({ ...deps, queue, timeSliceMs });
  const gradings = new Gradings(deps);
  return {
    ...guarded(new JobCreation(deps, { queue, ended })),
    ...guarded(changes),
    ...guarded(new JobList(deps)),
    // An error that their work throws is not an error of Redis.
    whileEnded: (id, statuses, work) => ended.whileEnded(id, statuses, work),
    whenDue: (shared, work) => whenDue(deps, shared, work),
    readEvents: (id, options) => onRedis(() => events.read(id, options)),
    newestEvents: (id, options) => onRedis(() => events.newest(id, options)),
    thinEvents: (signal) => onRedis(() => thinEvents(deps, signal)),
    reconcile: () => onRedis(() => reconcileQueue({ ...deps, queue })),
    queue: guarded(fair, ['locked']),
    checkpoints: guarded(new JobCheckpoints(deps)),
    inputs: guarded(new InputJobs(deps), ['whileNaming']),
    adapterBytes: guarded(new AdapterBytes(deps)),
    attempts: guarded(new JobAttempts(deps)),
    machines: guarded(new MachineBoard({ redis, keys, running: () => fair.presences() })),
    sweeps: guarded(new SweepStore({ ...deps, queue, notices, ended })),
    webhooks: guarded(new WebhookOutbox(deps)),
    deliveries: guarded(new DeliveryStore({ ...deps, notices })),
    comparisons: guarded(new ComparisonStore({ ...deps, notices })),
    gradings: guarded(gradings, ['listen', 'close']),
    async close() {
      notices.close();
      gradings.close();
      await queue.close();
    },
  };
}
