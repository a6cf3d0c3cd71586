export type { ReadEventsOptions } from './events/event-stream.js';
export { type AskOptions, createGenerationClient, type GenerationClient } from './generation/generation-client.js';
export {
  type ClaimedRequest,
  createGenerationServer,
  type GenerationServer,
  type GenerationServerOptions,
} from './generation/generation-server.js';
export type { PieceWriter } from './generation/piece-writer.js';
export type { AdapterBytes } from './jobs/adapter-bytes.js';
export type { InputJobs } from './jobs/input-jobs.js';
export type { JobLimits } from './jobs/job-admission.js';
export type {
  AttemptStart,
  AttemptWrite,
  HeldState,
  JobAttempt,
  JobAttempts,
  ReleaseOptions,
} from './jobs/job-attempts.js';
export type { JobCheckpoints } from './jobs/job-checkpoints.js';
export type { QueueStatus } from './jobs/job-index.js';
export type { ListJobsOptions } from './jobs/job-list.js';
export type { JobOrigin } from './jobs/job-record.js';
export {
  type CreateJobOptions,
  createJobStore,
  DEFAULT_TURN_MS,
  type JobStore,
  type JobStoreOptions,
} from './jobs/job-store.js';
export { jobKeys } from './keys.js';
export { type AskedGrading, GRADING_DELAYS_MS, type Gradings, type PendingGrading } from './outbox/gradings.js';
export type { PendingWebhook, WebhookOutbox } from './outbox/webhook-outbox.js';
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
export { createEventNotices, type EventNotices, type Notice } from './redis/event-notices.js';
export { type LuaScript, luaScript, readLuaScript } from './redis/lua-script.js';
export { onRedis, repliesOf } from './redis/redis-errors.js';
export type { RecordedRung, RecordedVariant, SweepOutcome, SweepRecord, WantedOfSweep } from './sweeps/sweep-record.js';
export { endField } from './sweeps/sweep-record.js';
export type { CreateSweepOptions, JobOfSweep, NewVariant, SweepStore } from './sweeps/sweep-store.js';
export type { MachineBoard } from './workers/machine-board.js';
export { type ClassWork, WORKER_CLASS_NAME, type WorkerClass, workByClass } from './workers/work-by-class.js';
export { openWorkerStarts, type WorkerStarts } from './workers/worker-starts.js';
