export type { ReadEventsOptions } from './event-stream.js';
export type { AttemptStart, AttemptWrite, JobAttempt, JobAttempts } from './job-attempts.js';
export { MAX_ATTEMPTS, QUEUE_NAME } from './job-queue.js';
export {
  type CreateJobOptions,
  createJobStore,
  type JobStore,
  type JobStoreOptions,
  type ListJobsOptions,
} from './job-store.js';
export { jobKeys } from './keys.js';
export type { MachineBoard } from './machine-board.js';
export type { Reconciled } from './reconcile-queue.js';
