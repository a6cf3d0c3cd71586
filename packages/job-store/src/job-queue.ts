import { type JobsOptions, Queue } from 'bullmq';
import type { Redis } from 'ioredis';

/** BullMQ's name for the queue of training jobs. */
export const QUEUE_NAME = 'training';

/** Times a job whose trainer crashed is tried in all, each from its last checkpoint. */
export const MAX_ATTEMPTS = 3;

const WEEK_SECONDS = 7 * 24 * 3600;

const JOB_OPTIONS: JobsOptions = {
  attempts: MAX_ATTEMPTS,
  backoff: { type: 'exponential', delay: 2_000 },
  removeOnComplete: true,
  // A job that BullMQ gave up must be found there until its record says so, too.
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

/** The dispatcher: which job goes to which worker, and when. It knows nothing of a job but its entry's name. */
export interface JobQueue {
  /** Adding an entry that is there already changes nothing. */
  add(entry: string): Promise<void>;
  /** Removes an entry that no worker holds; one that is held stays. */
  remove(entry: string): Promise<void>;
  stateOf(entry: string): Promise<QueuedState>;
  /** The entries that workers get next, in that order. */
  nextEntries(count: number): Promise<WaitingEntry[]>;
  /** Makes a waiting entry the one that a worker gets next. One that no longer waits stays where it is. */
  moveToFront(entry: string): Promise<void>;
  close(): Promise<void>;
}

/**
 * The queue over a connection that stays the caller's. BullMQ's object waits for Redis when it is made and is of no use
 * if that goes wrong, so it is made when first needed and again after a failure.
 */
export function createJobQueue(options: { redis: Redis; prefix: string }): JobQueue {
  let current: Queue | undefined;

  const withQueue = async <Result>(run: (queue: Queue) => Promise<Result>): Promise<Result> => {
    if (current === undefined) {
      current = new Queue(QUEUE_NAME, { connection: options.redis, prefix: options.prefix });
      // Whoever calls learns of a failure; this one is for those of the connection, which its owner reports.
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
