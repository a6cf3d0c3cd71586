import type { JobFailure } from '@lorasmith/contracts';

/**
 * The outcome of an attempt that is over, for the queue.
 *
 * - `ended`: the job has ended, as its record says.
 * - `retry`: the attempt failed and the job waits for the next one.
 * - `released`: the job waits for its next attempt, and this one did not fail.
 * - `paused`: the user of the job has paused it.
 * - `lost`: another worker has the job.
 */
export type AttemptOutcome =
  | { kind: 'ended'; status: 'succeeded' | 'cancelled' | 'not-needed' }
  | { kind: 'ended'; status: 'failed'; failure: JobFailure }
  | { kind: 'retry'; failure: JobFailure }
  | { kind: 'released' }
  | { kind: 'paused' }
  | { kind: 'lost' };
