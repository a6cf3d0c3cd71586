import { createJobStore } from '@lorasmith/job-store';
import { openModelSource } from '@lorasmith/model-store';
import { openExampleStore } from '@lorasmith/planning';
import { createMetrics, NO_TRACING, type Registry, type Tracing } from '@lorasmith/service-kit';
import { openStores, type Stores } from '@lorasmith/storage';
import type { Redis } from 'ioredis';
import type { Logger } from 'pino';
import { createCheckpointMirror } from './checkpoint-mirror.js';
import type { CheckpointLimits } from './checkpoint-room.js';
import type { Device } from './device/choose-device.js';
import { COUNT_AS_DRIVER } from './device/gpu-in-use.js';
import { createJobFolders } from './job-folders.js';
import { profileMachine } from './machine-profile.js';
import { startMaintenance } from './maintenance.js';
import { observeMachine } from './metrics/machine-metrics.js';
import { createWorkerMetrics } from './metrics/worker-metrics.js';
import { runJob } from './run-job.js';
import { startTrainQueue } from './train-queue.js';
import { trainerEnvironment } from './trainer/trainer-environment.js';
import { createTrainerPool, DEFAULT_POOL_TIMES } from './trainer/trainer-pool.js';
import { DEFAULT_TRAINER_LIMITS, forkTrainer } from './trainer/trainer-process.js';

const WEEK_MS = 7 * 24 * 3600 * 1000;

export interface WorkerOptions {
  /** Stays the caller's. Must wait for Redis as long as it takes (`maxRetriesPerRequest: null`). */
  redis: Redis;
  /** Of every Redis key. */
  prefix: string;
  dataDir: string;
  modelsDir: string;
  /** Where datasets, adapters and checkpoints are. @defaultValue `dataDir` */
  stores?: Stores;
  /** Of disk for datasets as tokens. @defaultValue 20 GiB */
  tokenCacheBytes?: number;
  /** Told to users, and to whoever looks into Redis. */
  workerName: string;
  /** The program that trains, forked per base model in use. */
  trainerProgram: string;
  /** The program that measures the machine; null: it is not measured. */
  probeProgram: string | null;
  /** What trainers compute with. @defaultValue cpu */
  device?: Device;
  /** What the trainer inherits. */
  environment: NodeJS.ProcessEnv;
  log: Logger;
  /** Where its figures are registered. @defaultValue one of its own, which nobody sees */
  metrics?: Registry;
  /** @defaultValue none */
  tracing?: Tracing;
  /** How long this worker may be out of reach before its job goes to another one. @defaultValue 120 000 */
  jobLockMs?: number;
  /** Longest that an attempt may train. @defaultValue 604 800 000 */
  jobTimeoutMs?: number;
  /** How often a running job is looked at for a cancel. @defaultValue 1 000 */
  watchIntervalMs?: number;
  /** Checkpoints of a job that has ended are kept so long. @defaultValue a week */
  checkpointsKeptMs?: number;
  /** So much of checkpoints is kept. @defaultValue all */
  checkpointLimits?: CheckpointLimits;
  /** A trainer without a job is kept so long. @defaultValue 600 000 */
  trainerIdleMs?: number;
  /** A trainer at work that says nothing for so long is killed. @defaultValue 120 000 */
  trainerSilenceMs?: number;
  /** Told when the GPU is gone: the worker hands its job back, takes no more and stops. Its process should end. @defaultValue none */
  onGpuLost?: () => void;
  /** What a stop may take; a tenth of it is kept for ending what did not end by itself. */
  shutdownTimeoutMs: number;
}

export interface WorkerService {
  /** Hands the job at work back, with a checkpoint, and ends; never takes longer than the shutdown timeout. */
  stop(): Promise<void>;
}

/** Takes jobs from the queue until it is stopped. Where Redis is away, it waits for it. */
export async function startWorker(options: WorkerOptions): Promise<WorkerService> {
  const { redis, prefix, dataDir, modelsDir, workerName, log, device = 'cpu' } = options;
  // TensorFlow would take a GPU that it was not told to use, and nearly all of its memory.
  const environment =
    device === 'gpu'
      ? { ...COUNT_AS_DRIVER, ...options.environment }
      : { ...options.environment, CUDA_VISIBLE_DEVICES: '-1' };
  const store = createJobStore({ redis, prefix });
  const stores = options.stores ?? (await openStores({ dataDir, s3: null }));
  const adapters = await stores.open('adapters');
  const datasets = await stores.open('datasets');
  const models = await openModelSource({ modelsDir, stores });
  // Enough for the trainer's checkpoint, and less than what this process itself is given.
  const shutdownMs = Math.min(DEFAULT_TRAINER_LIMITS.stopMs.shutdown, options.shutdownTimeoutMs * 0.6);
  const limits = {
    ...DEFAULT_TRAINER_LIMITS,
    silenceMs: options.trainerSilenceMs ?? DEFAULT_TRAINER_LIMITS.silenceMs,
    stopMs: { ...DEFAULT_TRAINER_LIMITS.stopMs, shutdown: shutdownMs },
  };
  const folders = createJobFolders({
    dataDir,
    keptMs: options.checkpointsKeptMs ?? WEEK_MS,
    keptBytes: options.checkpointLimits ?? { ofKey: Number.MAX_SAFE_INTEGER, inAll: Number.MAX_SAFE_INTEGER },
    // Where the data folder is the store, hosts that share it share the checkpoints in it.
    mirror: stores.shared ? createCheckpointMirror(await stores.open('checkpoints')) : null,
  });
  const pool = createTrainerPool({
    ...DEFAULT_POOL_TIMES,
    ...(options.trainerIdleMs === undefined ? {} : { idleMs: options.trainerIdleMs }),
    fork: () =>
      forkTrainer({
        program: options.trainerProgram,
        arguments: [device],
        environment: trainerEnvironment(environment),
        limits,
        onLine: (line, job) => log.info({ from: 'trainer', job }, line),
      }),
  });
  // Before the first job, so that the two do not take the machine from each other.
  const { probeProgram } = options;
  const machine =
    probeProgram === null
      ? null
      : await profileMachine({ dataDir, workerName, device, probeProgram, environment, log });
  if (machine !== null) {
    store.machines
      .publish(machine)
      .catch((error: unknown) => log.warn({ err: error }, 'what was measured of the machine could not be told'));
  }
  const tokens = { dataDir, maxBytes: options.tokenCacheBytes ?? 20 * 2 ** 30 };
  const sources = { models, datasets, adapters, folders, machine, tokens };
  const { watchIntervalMs = 1_000, jobLockMs = 120_000, jobTimeoutMs = 604_800_000 } = options;
  const { metrics: registry = createMetrics({ service: 'worker' }), tracing = NO_TRACING } = options;
  const metrics = createWorkerMetrics(registry);
  observeMachine(registry, { workerName, device, trainerPid: () => pool.trainerPid });
  const examples = await openExampleStore(tokens);
  const onGpuLost = () => {
    log.error('the GPU is no longer seen: the job goes back to the queue, and this worker takes no more');
    void stop();
    options.onGpuLost?.();
  };
  const queue = startTrainQueue({
    redis,
    prefix,
    workerName,
    lockMs: jobLockMs,
    run: (id, runOptions) =>
      runJob(
        { store, sources, pool, log, metrics, tracing, workerName, watchIntervalMs, jobTimeoutMs, onGpuLost },
        id,
        runOptions,
      ),
    log,
  });
  const endMaintenance = startMaintenance({
    store,
    folders,
    adapters,
    datasets,
    sweepStagings: stores.sweepStagings,
    examples,
    log,
  });
  queue.ready().then(
    () => log.info({ worker: workerName }, 'ready for jobs'),
    (error: unknown) => log.error({ err: error }, 'the queue was not reached'),
  );

  const stopAll = async () => {
    await queue.stop();
    await endMaintenance();
  };
  let stopping: Promise<void> | undefined;
  const stop = () => {
    stopping ??= (async () => {
      if (!(await within(options.shutdownTimeoutMs * 0.9, stopAll()))) {
        log.warn('the job at work could not be handed back in time; it is found by its lock running out');
        void queue.abandon();
      }
      await pool.close();
      await store.close();
    })();
    return stopping;
  };
  return { stop };
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
