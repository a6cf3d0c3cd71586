export type { ReadEventsOptions } from './event-stream.js';
export type { AttemptStart, AttemptWrite, JobAttempt, JobAttempts } from './job-attempts.js';
export type { ListJobsOptions } from './job-list.js';
export type { JobOrigin } from './job-origin.js';
export { MAX_ATTEMPTS, QUEUE_NAME } from './job-queue.js';
export {
  type CreateJobOptions,
  createJobStore,
  type JobLimits,
  type JobStore,
  type JobStoreOptions,
} from './job-store.js';
export { jobKeys } from './keys.js';
export type { MachineBoard } from './machine-board.js';
export { jobOfQueueEntry, queueEntryOf } from './queue-entry.js';
export type { QueueStatus } from './queue-status.js';
export type { Reconciled } from './reconcile-queue.js';
export { onRedis, repliesOf } from './redis-errors.js';
export { redisScript } from './scripts/redis-script.js';
