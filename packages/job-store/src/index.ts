export type { AdapterBytes } from './adapter-bytes.js';
export type { ReadEventsOptions } from './event-stream.js';
export { type AskedGrading, GRADING_DELAYS_MS, type Gradings, type PendingGrading } from './gradings.js';
export type { InputJobs } from './input-jobs.js';
export type { JobLimits } from './job-admission.js';
export type { AttemptStart, AttemptWrite, HeldState, JobAttempt, JobAttempts, ReleaseOptions } from './job-attempts.js';
export type { JobCheckpoints } from './job-checkpoints.js';
export type { QueueStatus } from './job-index.js';
export type { ListJobsOptions } from './job-list.js';
export type { JobOrigin } from './job-record.js';
export {
  type CreateJobOptions,
  createJobStore,
  DEFAULT_TURN_MS,
  type JobStore,
  type JobStoreOptions,
} from './job-store.js';
export { jobKeys } from './keys.js';
export type { MachineBoard } from './machine-board.js';
export {
  type Appetite,
  type BaseInMemory,
  type Choice,
  type Chooser,
  chooseNext,
  fits,
  fitsInto,
  type HeldJob,
  isOnBase,
  type WarmWorker,
} from './queue/choose-next.js';
export type { FairQueue, QueueSnapshot, RemainingWork, WorkerPresence } from './queue/fair-queue.js';
export { jobOfQueueEntry, MAX_ATTEMPTS, QUEUE_NAME, queueEntryOf } from './queue/job-queue.js';
export type { JobShare, PlannedWork, QueueEntry, WaitingJob } from './queue/queue-entry.js';
export type { Reconciled } from './queue/reconcile-queue.js';
export { type ClassWork, WORKER_CLASS_NAME, type WorkerClass, workByClass } from './queue/work-by-class.js';
export { openWorkerStarts, type WorkerStarts } from './queue/worker-starts.js';
export type { RecordedRung, RecordedVariant, SweepOutcome, SweepRecord, WantedOfSweep } from './sweeps/sweep-record.js';
export { endField } from './sweeps/sweep-record.js';
export type { CreateSweepOptions, JobOfSweep, NewVariant, SweepStore } from './sweeps/sweep-store.js';
export type { PendingWebhook, WebhookOutbox } from './webhook-outbox.js';
