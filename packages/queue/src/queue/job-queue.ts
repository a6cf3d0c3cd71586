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
  // A job that BullMQ gave up must stay there until the record says so too.
  removeOnFail: { age: WEEK_SECONDS },
};

export interface QueuedState {
  state: 'absent' | 'failed' | 'alive';
  /** The reason why BullMQ gave up the job; empty if it did not. */
  reason: string;
}

/**
 * The id of a job in BullMQ. Each resume changes it, so that BullMQ's older job, which failed or which a worker has not released yet,
 * is not taken for the new one.
 */
export function bullIdOf({ id, resumes }: Pick<Job, 'id' | 'resumes'>): string {
  return resumes === 0 ? id : `${id}.${resumes}`;
}

/** The inverse of {@link bullIdOf}. */
export function jobOfBullId(bullId: string): { id: JobId; resumes: number } {
  const [id = '', resumes = '0'] = bullId.split('.');
  return { id, resumes: Number(resumes) };
}

export interface JobQueueOptions {
  redis: Redis;
  prefix: string;
  /** Receives the failure of an {@link JobQueue.attempt}. */
  onError: (id: JobId, error: unknown) => void;
}

/**
 * BullMQ, on a connection that the caller closes: the jobs that wait, and those that workers have leased. It knows a job only by its id
 * in BullMQ ({@link bullIdOf}).
 *
 * BullMQ's `Queue` connects when it is constructed and is unusable if that fails, so it is constructed on first use, and again after a failure.
 */
export class JobQueue {
  readonly #options: JobQueueOptions;
  #current: Queue | undefined;

  constructor(options: JobQueueOptions) {
    this.#options = options;
  }

  /** Adds a job, or does nothing if BullMQ has it. */
  async add(bullId: string): Promise<void> {
    await this.#run((queue) => queue.add('train', {}, { ...JOB_OPTIONS, jobId: bullId }));
  }

  /** Removes a job, unless a worker has leased it. */
  async remove(bullId: string): Promise<void> {
    await this.#run((queue) => queue.remove(bullId));
  }

  /** Changes BullMQ's job after the record was written: `reconcileQueue` repeats a change that fails here. */
  async attempt(id: JobId, change: (queue: JobQueue) => Promise<void>): Promise<void> {
    try {
      await change(this);
    } catch (error) {
      this.#options.onError(id, error);
    }
  }

  async stateOf(bullId: string): Promise<QueuedState> {
    return await this.#run(async (queue) => {
      const state = await queue.getJobState(bullId);
      if (state === 'unknown') return { state: 'absent', reason: '' };
      if (state !== 'failed' && state !== 'completed') return { state: 'alive', reason: '' };
      const job = await queue.getJob(bullId);
      return { state: 'failed', reason: job?.failedReason ?? '' };
    });
  }

  /** The ids in BullMQ of the jobs that wait and of those that workers have leased, in no useful order. */
  async bullIds(): Promise<{ waiting: string[]; leased: string[] }> {
    return await this.#run(async (queue) => {
      const [waiting, leased] = await Promise.all([
        queue.getRanges(['wait'], 0, -1),
        queue.getRanges(['active'], 0, -1),
      ]);
      return { waiting, leased };
    });
  }

  /** Makes a waiting job the next one. Does nothing if it no longer waits. */
  async moveToFront(bullId: string): Promise<void> {
    await this.#run(async (queue) => {
      const job = await queue.getJob(bullId);
      // One script: it removes the job from the waiting list and adds it at the end from which workers take.
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
