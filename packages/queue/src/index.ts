export {
  type ClaimedComparison,
  COMPARISON_LEASE_MS,
  type ComparisonStore,
  type ComparisonWrite,
  comparisonNotFound,
  type NewComparison,
} from './comparisons/comparison-store.js';
export {
  type ClaimedDelivery,
  DELIVERY_LEASE_MS,
  type DeliveriesOfJob,
  type DeliveryStore,
  deliveryNotFound,
  type FollowedMove,
  type NewDelivery,
  takenByOther,
} from './deliveries/delivery-store.js';
export type { ReadEventsOptions } from './events/event-stream.js';
export type { ChunkWriter } from './generation/chunk-writer.js';
export { type AskOptions, createGenerationClient, type GenerationClient } from './generation/generation-client.js';
export {
  type ClaimedRequest,
  createGenerationServer,
  type GenerationServer,
  type GenerationServerOptions,
} from './generation/generation-server.js';
export type { JobLimits } from './jobs/job-admission.js';
export type {
  AttemptStart,
  AttemptWrite,
  JobAttempt,
  JobAttempts,
  ReleaseOptions,
  RungState,
} from './jobs/job-attempts.js';
export type { CreateJobOptions } from './jobs/job-creation.js';
export type { ListJobsOptions, QueueStatus } from './jobs/job-list.js';
export type { JobOrigin } from './jobs/job-record.js';
export { createJobStore, DEFAULT_TIME_SLICE_MS, type JobStore, type JobStoreOptions } from './jobs/job-store.js';
export { jobKeys } from './keys.js';
export { type AskedGrading, GRADING_DELAYS_MS, type Gradings, type PendingGrading } from './outbox/gradings.js';
export type { PendingWebhook, WebhookOutbox } from './outbox/webhook-outbox.js';
export {
  type BaseInMemory,
  type Capacity,
  type Choice,
  type Chooser,
  chooseNext,
  fits,
  fitsInto,
  isOnBase,
  type LeasedJob,
  type WarmWorker,
} from './queue/choose-next.js';
export type { FairQueue, QueueSnapshot } from './queue/fair-queue.js';
export { bullIdOf, jobOfBullId, MAX_ATTEMPTS, QUEUE_NAME } from './queue/job-queue.js';
export type { JobShare, PlannedWork, QueueEntry, WaitingJob } from './queue/queue-entry.js';
export type { RemainingWork } from './queue/queue-forecast.js';
export type { Reconciled } from './queue/reconcile-queue.js';
export { createEventNotices, type EventNotices, type Notice } from './redis/event-notices.js';
export { type LuaScript, luaScript, luaScriptNames, readLuaScript } from './redis/lua-script.js';
export { onRedis, repliesOf } from './redis/redis-errors.js';
export type {
  CreateSweepOptions,
  NewVariant,
  RecordedRung,
  RecordedVariant,
  SweepOutcome,
  SweepRecord,
  WantedOfSweep,
} from './sweeps/sweep-record.js';
export { endField } from './sweeps/sweep-record.js';
export type { JobOfSweep, SweepStore } from './sweeps/sweep-store.js';
export {
  type CallState,
  type SubmittedOp,
  TrainingSessionStore,
  trainingSessionLimits,
  WORKER_LOST,
} from './training-sessions/session-client.js';
export {
  type CheckpointCopy,
  type ClientRecord,
  type ClientSession,
  hasExpired,
  OPENING,
  resultId,
  type SessionCheckpoint,
  type TrainedModel,
  type TrainedModelRecord,
} from './training-sessions/session-records.js';
export { ClaimedModel, TrainingSessionServer } from './training-sessions/session-server.js';
export { type ClassWork, WORKER_CLASS_NAME, type WorkerClass, workByClass } from './workers/work-by-class.js';
export { openWorkerStarts, type WorkerPresence, type WorkerStarts } from './workers/worker-reports.js';
