import type { Job, JobId } from '@lorasmith/contracts';
import { type JobsOptions, Queue } from 'bullmq';
import type { Redis } from 'ioredis';

/** BullMQ's name for the queue of training jobs. */
export const QUEUE_NAME = 'training';

/** How often a job whose trainer crashes is tried, each time from its last checkpoint. */
export const MAX_ATTEMPTS = 3;

const WEEK_SECONDS = 7 * 24 * 3600;

const JOB_OPTIONS: JobsOptions = {
  attempts: MAX_ATTEMPTS,
  backoff: { type: 'exponential', delay: 2_000 },
  removeOnComplete: true,
  // An entry that BullMQ gave up must stay until the record says so, too.
  removeOnFail: { age: WEEK_SECONDS },
};

export interface QueuedState {
  state: 'absent' | 'failed' | 'alive';
  /** Why BullMQ gave it up, when it did. */
  reason: string;
}

export interface WaitingEntry {
  entry: string;
  /** When it was put into the queue; a retry does not change it. */
  addedAt: Date;
}

/**
 * The queue entry of a job. It has another name after each resume, so that what the queue still has of the time before, a
 * failed entry or one that a worker has yet to release, is not taken for it.
 */
export function queueEntryOf({ id, resumes }: Pick<Job, 'id' | 'resumes'>): string {
  return resumes === 0 ? id : `${id}.${resumes}`;
}

/** The inverse of {@link queueEntryOf}. */
export function jobOfQueueEntry(entry: string): { id: JobId; resumes: number } {
  const [id = '', resumes = '0'] = entry.split('.');
  return { id, resumes: Number(resumes) };
}

/** Decides which job goes to which worker, and when. Of a job it only knows the name of its entry. */
export interface JobQueue {
  /** Adds an entry, or does nothing if it exists. */
  add(entry: string): Promise<void>;
  /** Removes an entry, unless a worker holds it. */
  remove(entry: string): Promise<void>;
  stateOf(entry: string): Promise<QueuedState>;
  /** The entries that workers get next, in that order. */
  nextEntries(count: number): Promise<WaitingEntry[]>;
  /** Makes a waiting entry the one that a worker gets next. One that no longer waits stays where it is. */
  moveToFront(entry: string): Promise<void>;
  close(): Promise<void>;
}

/**
 * The queue on a connection that the caller closes. BullMQ's object connects when it is made and is useless if that fails,
 * so it is made when first needed, and again after a failure.
 */
export function createJobQueue(options: { redis: Redis; prefix: string }): JobQueue {
  let current: Queue | undefined;

  const withQueue = async <Result>(run: (queue: Queue) => Promise<Result>): Promise<Result> => {
    if (current === undefined) {
      current = new Queue(QUEUE_NAME, { connection: options.redis, prefix: options.prefix });
      // The caller sees the failure of its call. Failures of the connection are reported by its owner.
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
    nextEntries: (count) =>
      withQueue(async (queue) => {
        const waiting = await queue.getWaiting(0, count - 1);
        return waiting.flatMap(({ id, timestamp }) =>
          id === undefined ? [] : [{ entry: id, addedAt: new Date(timestamp) }],
        );
      }),
    moveToFront: (entry) =>
      withQueue(async (queue) => {
        const job = await queue.getJob(entry);
        // One script, which takes the entry out of the waiting list and adds it at the end where workers take.
        await job?.changePriority({ priority: 0, lifo: true });
      }),
    close: async () => {
      await current?.close();
      current = undefined;
    },
  };
}
