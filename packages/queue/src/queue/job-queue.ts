import type { Job, JobId } from '@lorasmith/contracts';
import { type JobsOptions, Queue } from 'bullmq';
import type { Redis } from 'ioredis';

/** BullMQ's name for the queue of training jobs. */
export const QUEUE_NAME = 'training';

/** How often a job is attempted if its trainer crashes. Each attempt continues from the last checkpoint. */
export const MAX_ATTEMPTS = 3;
/** Limits, for docs/limits.md. */
export const attemptLimits = {
  attempts: { value: MAX_ATTEMPTS, unit: 'attempts', beyond: 'the job fails' },
};

const WEEK_SECONDS = 7 * 24 * 3600;

const JOB_OPTIONS: JobsOptions = {
  attempts: MAX_ATTEMPTS,
  removeOnComplete: true,
  // An entry that BullMQ gave up must stay until the record says so too.
  removeOnFail: { age: WEEK_SECONDS },
};

export interface QueuedState {
  state: 'absent' | 'failed' | 'alive';
  /** Why BullMQ gave up the entry; empty if it did not. */
  reason: string;
}

/**
 * The name of a job's queue entry. Each resume changes it, so that an older entry that failed, or that a worker has not
 * released yet, is not taken for the new one.
 */
export function queueEntryOf({ id, resumes }: Pick<Job, 'id' | 'resumes'>): string {
  return resumes === 0 ? id : `${id}.${resumes}`;
}

/** The inverse of {@link queueEntryOf}. */
export function jobOfQueueEntry(entry: string): { id: JobId; resumes: number } {
  const [id = '', resumes = '0'] = entry.split('.');
  return { id, resumes: Number(resumes) };
}

/** BullMQ: which entries wait, and which worker holds which. It knows a job only by the name of its entry. */
export interface JobQueue {
  /** Adds an entry, or does nothing if it exists. */
  add(entry: string): Promise<void>;
  /** Removes an entry, unless a worker holds it. */
  remove(entry: string): Promise<void>;
  stateOf(entry: string): Promise<QueuedState>;
  /** The entries that wait and those that workers hold, in no useful order. */
  entries(): Promise<{ waiting: string[]; held: string[] }>;
  /** Makes a waiting entry the next one. Does nothing if the entry no longer waits. */
  moveToFront(entry: string): Promise<void>;
  close(): Promise<void>;
}

/**
 * The queue on a connection that the caller closes. BullMQ's `Queue` connects when it is constructed and is unusable if
 * that fails, so it is constructed on first use, and again after a failure.
 */
export function createJobQueue(options: { redis: Redis; prefix: string }): JobQueue {
  let current: Queue | undefined;

  const withQueue = async <Result>(run: (queue: Queue) => Promise<Result>): Promise<Result> => {
    if (current === undefined) {
      current = new Queue(QUEUE_NAME, { connection: options.redis, prefix: options.prefix });
      // The call that fails rejects, and the owner of the connection reports its errors.
      current.on('error', () => {});
    }
    const queue = current;
    try {
      return await run(queue);
    } catch (error) {
      if (current === queue) current = undefined;
      await queue.close().catch(() => {});
      throw error;
    }
  };

  return {
    add: (entry) =>
      withQueue(async (queue) => {
        await queue.add('train', {}, { ...JOB_OPTIONS, jobId: entry });
      }),
    remove: (entry) =>
      withQueue(async (queue) => {
        await queue.remove(entry);
      }),
    stateOf: (entry) =>
      withQueue(async (queue) => {
        const state = await queue.getJobState(entry);
        if (state === 'unknown') return { state: 'absent', reason: '' };
        if (state !== 'failed' && state !== 'completed') return { state: 'alive', reason: '' };
        const job = await queue.getJob(entry);
        return { state: 'failed', reason: job?.failedReason ?? '' };
      }),
    entries: () =>
      withQueue(async (queue) => {
        const [waiting, held] = await Promise.all([
          queue.getRanges(['wait'], 0, -1),
          queue.getRanges(['active'], 0, -1),
        ]);
        return { waiting, held };
      }),
    moveToFront: (entry) =>
      withQueue(async (queue) => {
        const job = await queue.getJob(entry);
        // One script: it removes the entry from the waiting list and adds it at the end from which workers take.
        await job?.changePriority({ priority: 0, lifo: true });
      }),
    close: async () => {
      await current?.close();
      current = undefined;
    },
  };
}
