import { createJobStore } from '@lorasmith/job-store';
import { openBundleStore } from '@lorasmith/storage';
import type { Redis } from 'ioredis';
import type { Logger } from 'pino';
import { createJobFolders } from './job-folders.js';
import { startMaintenance } from './maintenance.js';
import { runJob } from './run-job.js';
import { type LockTimes, startTrainQueue } from './train-queue.js';
import { trainerEnvironment } from './trainer/trainer-environment.js';
import { createTrainerPool, DEFAULT_POOL_TIMES } from './trainer/trainer-pool.js';
import { DEFAULT_TRAINER_LIMITS, forkTrainer } from './trainer/trainer-process.js';

export interface WorkerOptions {
  /** Stays the caller's. Must wait for Redis as long as it takes (`maxRetriesPerRequest: null`). */
  redis: Redis;
  /** Of every Redis key. */
  prefix: string;
  dataDir: string;
  modelsDir: string;
  /** Told to users, and to whoever looks into Redis. */
  workerName: string;
  /** The program that trains, forked per base model in use. */
  trainerProgram: string;
  /** What the trainer inherits. */
  environment: NodeJS.ProcessEnv;
  log: Logger;
  lockTimes: LockTimes;
  /** How often a running job is looked at for a cancel. */
  watchIntervalMs: number;
  /** A trainer without a job is kept so long. @defaultValue 600 000 */
  trainerIdleMs?: number;
  /** After it, a stop no longer waits for anything. */
  shutdownTimeoutMs: number;
}

export interface WorkerService {
  /** Hands the job at work back, with a checkpoint, and ends; never takes longer than the shutdown timeout. */
  stop(): Promise<void>;
}

/** Takes jobs from the queue until it is stopped. Resolves when the queue is reached. */
export async function startWorker(options: WorkerOptions): Promise<WorkerService> {
  const { redis, prefix, dataDir, modelsDir, workerName, log } = options;
  const store = createJobStore({ redis, prefix });
  const adapters = await openBundleStore({ root: dataDir, kind: 'adapters' });
  const datasets = await openBundleStore({ root: dataDir, kind: 'datasets' });
  const folders = createJobFolders({ dataDir });
  const pool = createTrainerPool({
    ...DEFAULT_POOL_TIMES,
    ...(options.trainerIdleMs === undefined ? {} : { idleMs: options.trainerIdleMs }),
    fork: () =>
      forkTrainer({
        program: options.trainerProgram,
        environment: trainerEnvironment(options.environment),
        limits: DEFAULT_TRAINER_LIMITS,
        onLine: (line) => log.info({ from: 'trainer' }, line),
      }),
  });
  const sources = { modelsDir, datasets, adapters, folders };
  const { watchIntervalMs } = options;
  const queue = startTrainQueue({
    redis,
    prefix,
    workerName,
    times: options.lockTimes,
    run: (id, runOptions) => runJob({ store, sources, pool, log, workerName, watchIntervalMs }, id, runOptions),
    log,
  });
  const endMaintenance = startMaintenance({ store, folders, adapters, log });
  await queue.ready();
  log.info({ worker: workerName }, 'ready for jobs');

  const stopAll = async () => {
    await queue.stop();
    await endMaintenance();
  };
  let stopping: Promise<void> | undefined;
  return {
    stop() {
      stopping ??= (async () => {
        if (!(await within(options.shutdownTimeoutMs, stopAll()))) {
          log.warn('the job at work could not be handed back in time; it is found by its lock running out');
          void queue.abandon();
        }
        await pool.close();
        await store.close();
      })();
      return stopping;
    },
  };
}

/** Whether the work was done in time; it is left alone if not. */
async function within(timeoutMs: number, work: Promise<void>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), timeoutMs);
  });
  try {
    return await Promise.race([work.then(() => true), timeout]);
  } finally {
    clearTimeout(timer);
  }
}
