export type { AdapterBytes } from './adapter-bytes.js';
export type { DatasetJobs } from './dataset-jobs.js';
export type { ReadEventsOptions } from './event-stream.js';
export type { AttemptStart, AttemptWrite, JobAttempt, JobAttempts } from './job-attempts.js';
export type { JobCheckpoints } from './job-checkpoints.js';
export type { ListJobsOptions, QueueStatus } from './job-index.js';
export { jobOfQueueEntry, MAX_ATTEMPTS, QUEUE_NAME, queueEntryOf } from './job-queue.js';
export type { JobOrigin } from './job-record.js';
export {
  type CreateJobOptions,
  createJobStore,
  type JobLimits,
  type JobStore,
  type JobStoreOptions,
} from './job-store.js';
export { jobKeys } from './keys.js';
export type { MachineBoard } from './machine-board.js';
export type { Reconciled } from './reconcile-queue.js';
export { onRedis, repliesOf } from './redis-errors.js';
export { redisScript } from './scripts/lua-script.js';
