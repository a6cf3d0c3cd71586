import type { Job, JobId } from '@lorasmith/contracts';
import { type JobsOptions, Queue } from 'bullmq';
import type { Redis } from 'ioredis';

/** BullMQ's name for the queue of training jobs. */
export const QUEUE_NAME = 'training';

/** The number of attempts of a job if its trainer crashes. Each attempt continues from the last checkpoint. */
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

export interface JobQueueOptions {
  redis: Redis;
  prefix: string;
  /** Receives the failure of an {@link JobQueue.attempt}. */
  onError: (id: JobId, error: unknown) => void;
}

/**
 * BullMQ, on a connection that the caller closes: which entries wait, and which worker has leased which. It knows a job only by the name
 * of its entry.
 *
 * BullMQ's `Queue` connects when it is constructed and is unusable if that fails, so it is constructed on first use, and again after a failure.
 */
export class JobQueue {
  readonly #options: JobQueueOptions;
  #current: Queue | undefined;

  constructor(options: JobQueueOptions) {
    this.#options = options;
  }

  /** Adds an entry, or does nothing if it exists. */
  async add(entry: string): Promise<void> {
    await this.#run((queue) => queue.add('train', {}, { ...JOB_OPTIONS, jobId: entry }));
  }

  /** Removes an entry, unless a worker has leased it. */
  async remove(entry: string): Promise<void> {
    await this.#run((queue) => queue.remove(entry));
  }

  /** Changes the entry of a job whose record is written already: `reconcileQueue` repeats what fails here. */
  async attempt(id: JobId, change: (queue: JobQueue) => Promise<void>): Promise<void> {
    try {
      await change(this);
    } catch (error) {
      this.#options.onError(id, error);
    }
  }

  async stateOf(entry: string): Promise<QueuedState> {
    return await this.#run(async (queue) => {
      const state = await queue.getJobState(entry);
      if (state === 'unknown') return { state: 'absent', reason: '' };
      if (state !== 'failed' && state !== 'completed') return { state: 'alive', reason: '' };
      const job = await queue.getJob(entry);
      return { state: 'failed', reason: job?.failedReason ?? '' };
    });
  }

  /** The entries that wait and those that workers have leased, in no useful order. */
  async entries(): Promise<{ waiting: string[]; leased: string[] }> {
    return await this.#run(async (queue) => {
      const [waiting, leased] = await Promise.all([
        queue.getRanges(['wait'], 0, -1),
        queue.getRanges(['active'], 0, -1),
      ]);
      return { waiting, leased };
    });
  }

  /** Makes a waiting entry the next one. Does nothing if the entry no longer waits. */
  async moveToFront(entry: string): Promise<void> {
    await this.#run(async (queue) => {
      const job = await queue.getJob(entry);
      // One script: it removes the entry from the waiting list and adds it at the end from which workers take.
      await job?.changePriority({ priority: 0, lifo: true });
    });
  }

  async close(): Promise<void> {
    await this.#current?.close();
    this.#current = undefined;
  }

  async #run<Result>(work: (queue: Queue) => Promise<Result>): Promise<Result> {
    if (this.#current === undefined) {
      const { redis, prefix } = this.#options;
      this.#current = new Queue(QUEUE_NAME, { connection: redis, prefix });
      // The call that fails rejects, and the owner of the connection reports its errors.
      this.#current.on('error', () => {});
    }
    const queue = this.#current;
    try {
      return await work(queue);
    } catch (error) {
      if (this.#current === queue) this.#current = undefined;
      await queue.close().catch(() => {});
      throw error;
    }
  }
}
