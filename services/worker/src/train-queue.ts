import { jobKeys, jobOfQueueEntry, QUEUE_NAME } from '@lorasmith/job-store';
import type { StopReason } from '@lorasmith/training';
import { UnrecoverableError, WaitingError, Worker } from 'bullmq';
import type { Redis } from 'ioredis';
import type { Logger } from 'pino';
import type { JobRun } from './attempt.js';
import type { RunJobOptions } from './run-job.js';

/** How many workers of one job may die before it is given up. */
const MAX_STALLED_COUNT = 3;

export interface TrainQueueOptions {
  /** Must wait for Redis as long as it takes (`maxRetriesPerRequest: null`). */
  redis: Redis;
  prefix: string;
  workerName: string;
  /** How long the lock on a job lasts without being renewed. */
  lockMs: number;
  /** The most jobs at once. */
  jobsAtOnce: number;
  run: (id: string, options: RunJobOptions) => Promise<JobRun>;
  log: Logger;
}

export interface TrainQueue {
  ready(): Promise<void>;
  /** Takes no further job, stops the current one and releases it. */
  stop(): Promise<void>;
  /** Drops everything at once; the current job is found by its lock running out. */
  abandon(): Promise<void>;
}

/** Takes jobs from BullMQ and reports to it what became of each. */
export function startTrainQueue(options: TrainQueueOptions): TrainQueue {
  const { redis, prefix, workerName, lockMs, jobsAtOnce, run, log } = options;
  const neverPaused = new AbortController().signal;
  const worker = new Worker(
    QUEUE_NAME,
    async (job, token, signal) => {
      if (job.id === undefined || signal === undefined) throw new UnrecoverableError('a job without an id');
      const isLast = job.attemptsMade + 1 >= (job.opts.attempts ?? 1);
      const { id, resumes } = jobOfQueueEntry(job.id);
      const result = await run(id, { signal, pause: neverPaused, isLast, resumes, onPlaced: () => {} });
      switch (result.outcome) {
        case 'ended':
          if (result.status === 'failed') throw new UnrecoverableError(result.failure.message);
          return;
        case 'retry':
          throw new Error(result.failure.message);
        case 'released':
          await job.moveToWait(token);
          throw new WaitingError();
        case 'lost':
          throw new Error('another worker has the job');
      }
    },
    {
      connection: redis,
      prefix: jobKeys(prefix).queuePrefix,
      name: workerName,
      concurrency: jobsAtOnce,
      // A trainer never blocks this process, so a renewal is late only when Redis is.
      lockDuration: lockMs,
      lockRenewTime: lockMs / 4,
      stalledInterval: lockMs / 4,
      maxStalledCount: MAX_STALLED_COUNT,
    },
  );
  worker.on('error', (error) => log.warn({ err: error }, 'queue trouble'));
  worker.on('stalled', (id) => log.warn({ job: id }, 'the worker of this job has died; the job waits for another'));
  worker.on('lockRenewalFailed', (ids) => {
    for (const id of ids) worker.cancelJob(id, 'lost-lock' satisfies StopReason);
  });

  return {
    ready: async () => {
      await worker.waitUntilReady();
    },
    async stop() {
      await worker.pause(true);
      worker.cancelAllJobs('shutdown' satisfies StopReason);
      await worker.close();
    },
    abandon: () => worker.close(true),
  };
}
