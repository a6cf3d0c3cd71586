import path from 'node:path';
import { openModelSource } from '@lorasmith/base-models';
import { createGenerationServer } from '@lorasmith/generation-queue';
import { createJobStore } from '@lorasmith/job-store';
import { WEIGHT_DIGESTS_FOLDER, WeightDigests } from '@lorasmith/model-folder';
import { openExampleStore, precisionOn, SHARED_PASS_TOKENS } from '@lorasmith/planning';
import { createMetrics, NO_TRACING, type Registry, type Tracing } from '@lorasmith/service-kit';
import { openStores, type Stores } from '@lorasmith/storage';
import type { MeasureOptions } from '@lorasmith/training';
import type { Redis } from 'ioredis';
import type { Logger } from 'pino';
import { createCheckpointMirror } from './checkpoint-mirror.js';
import type { CheckpointQuotas } from './checkpoint-quota.js';
import { type ChosenEngine, cpuEngine } from './device/choose-engine.js';
import { gpuFault } from './device/try-gpu.js';
import { answerRequests } from './generation/answer-requests.js';
import { createGenerationMetrics } from './generation/generation-metrics.js';
import { createJobFolders } from './job-folders.js';
import { profileMachine } from './machine-profile.js';
import { startMaintenance } from './maintenance.js';
import { observeMachine } from './metrics/machine-metrics.js';
import { createWorkerMetrics } from './metrics/worker-metrics.js';
import { runJob } from './run-job.js';
import { startTrainQueue } from './train-queue.js';
import { trainerProgram } from './trainer/trainer-environment.js';
import { DEFAULT_POOL_TIMES, TrainerPool } from './trainer/trainer-pool.js';
import { DEFAULT_TRAINER_LIMITS, startTrainer } from './trainer/trainer-process.js';

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
  /** Shown to users, and stored in Redis. */
  workerName: string;
  /** The program that trains, started for the base model in use. */
  trainerProgram: string;
  /** The program that measures the machine; null: it is not measured. */
  probeProgram: string | null;
  /** The shapes that are measured on a GPU. @defaultValue full */
  probeSizes?: MeasureOptions['sizes'];
  /** What trainers compute with. @defaultValue the CPU */
  engine?: ChosenEngine;
  /** The program that tries the GPU after a trainer has failed on it, `try-gpu-main`. @defaultValue it is not tried */
  tryGpuProgram?: string;
  /** What trainers inherit without an `engine`, which has an environment. */
  environment: NodeJS.ProcessEnv;
  log: Logger;
  /** Where its metrics are registered. @defaultValue a registry of its own */
  metrics?: Registry;
  /** @defaultValue none */
  tracing?: Tracing;
  /** How long this worker may be unreachable before its job goes to another one. @defaultValue 120 000 */
  jobLockMs?: number;
  /** The time limit of an attempt. @defaultValue 604 800 000 */
  jobTimeoutMs?: number;
  /** Time between two looks at a running job for a cancel. @defaultValue 1 000 */
  watchIntervalMs?: number;
  /** How long the checkpoints of an ended job are retained. @defaultValue a week */
  checkpointRetentionMs?: number;
  /** @defaultValue no limit */
  checkpointQuotas?: CheckpointQuotas;
  /** The most jobs at once. @defaultValue 8 */
  jobsAtOnce?: number;
  /** How long the worker stays on a base model while jobs wait for another one. @defaultValue 600 000 */
  turnMs?: number;
  /** Tokens of several jobs in one pass. @defaultValue 1 024 */
  passTokens?: number;
  /** How requests for text are answered. @defaultValue that of the settings */
  generation?: GenerationOptions;
  /** How long a trainer without a job is kept. @defaultValue 600 000 */
  trainerIdleMs?: number;
  /** A trainer with a job that sends nothing for so long is killed. @defaultValue 120 000 */
  trainerSilenceMs?: number;
  /** Called when the GPU is lost: the worker releases its jobs and stops. Its process should end. @defaultValue none */
  onGpuLost?: (fault: string) => void;
  /** What a stop may take; a tenth of it is kept for killing what did not end by itself. */
  shutdownTimeoutMs: number;
}

export interface GenerationOptions {
  /** The share of the time that answers get while jobs train. */
  share: number;
  /** The most requests at once. */
  atOnce: number;
  /** Memory for keys and values. */
  cacheBytes: number;
  /** Memory for adapters. */
  adapterBytes: number;
  /** Of a request. */
  timeoutMs: number;
}

const DEFAULT_GENERATION: GenerationOptions = {
  share: 0.25,
  atOnce: 16,
  cacheBytes: 512 * 2 ** 20,
  adapterBytes: 256 * 2 ** 20,
  timeoutMs: 600_000,
};

export interface WorkerService {
  /** Releases the current jobs, with a checkpoint each, and ends; never takes longer than the shutdown timeout. */
  stop(): Promise<void>;
}

/** Takes jobs from the queue until it is stopped. While Redis is unavailable, it waits. */
export async function startWorker(options: WorkerOptions): Promise<WorkerService> {
  const { redis, prefix, dataDir, modelsDir, workerName, log, engine = cpuEngine(options.environment) } = options;
  const { turnMs = 600_000 } = options;
  const store = createJobStore({ redis, prefix, turnMs });
  const stores = options.stores ?? (await openStores({ dataDir, s3: null }));
  const adapters = await stores.open('adapters');
  const datasets = await stores.open('datasets');
  const weightDigests = path.join(dataDir, WEIGHT_DIGESTS_FOLDER);
  const models = await openModelSource({ modelsDir, stores, digests: new WeightDigests(weightDigests) });
  // Enough for the trainer's checkpoint, and less than the time that this process itself has.
  const shutdownMs = Math.min(DEFAULT_TRAINER_LIMITS.stopMs.shutdown, options.shutdownTimeoutMs * 0.6);
  const limits = {
    ...DEFAULT_TRAINER_LIMITS,
    silenceMs: options.trainerSilenceMs ?? DEFAULT_TRAINER_LIMITS.silenceMs,
    stopMs: { ...DEFAULT_TRAINER_LIMITS.stopMs, shutdown: shutdownMs },
  };
  const folders = createJobFolders({
    dataDir,
    retentionMs: options.checkpointRetentionMs ?? WEEK_MS,
    quotas: options.checkpointQuotas ?? { ofKey: Number.MAX_SAFE_INTEGER, inAll: Number.MAX_SAFE_INTEGER },
    // Where the data folder is the store, hosts that share it share the checkpoints in it.
    mirror: stores.shared ? createCheckpointMirror(await stores.open('checkpoints')) : null,
  });
  // Before the first trainer and the first job, so that they do not compete for the machine.
  const { probeProgram } = options;
  const machine =
    probeProgram === null
      ? null
      : await profileMachine({ dataDir, workerName, engine, probeProgram, sizes: options.probeSizes ?? 'full', log });
  if (machine !== null) {
    store.machines
      .publish(machine)
      .catch((error: unknown) => log.warn({ err: error }, 'the measurements of the machine could not be published'));
  }
  const tokens = { dataDir, maxBytes: options.tokenCacheBytes ?? 20 * 2 ** 30 };
  const sources = { models, datasets, adapters, folders, machine, tokens, weightDigests };
  const { watchIntervalMs = 1_000, jobLockMs = 120_000, jobTimeoutMs = 604_800_000 } = options;
  const { metrics: registry = createMetrics({ service: 'worker' }), tracing = NO_TRACING } = options;
  const metrics = createWorkerMetrics(registry);
  const examples = await openExampleStore(tokens);
  let isGpuLost = false;
  const onGpuLost = (fault: string) => {
    // Each of its jobs finds out.
    if (isGpuLost) return;
    isGpuLost = true;
    log.error({ fault }, 'the GPU is lost: jobs are released to the queue, and this worker takes no more jobs');
    void stop();
    options.onGpuLost?.(fault);
  };
  const { tryGpuProgram } = options;
  const findGpuFault = shared(async () =>
    engine.kind === 'cpu' || tryGpuProgram === undefined ? null : await gpuFault(tryGpuProgram, engine.environment),
  );
  const { jobsAtOnce = 8, passTokens = SHARED_PASS_TOKENS, generation = DEFAULT_GENERATION } = options;
  const program = trainerProgram(options.trainerProgram, engine, {
    passTokens,
    generationShare: generation.share,
    generationMemory: { cacheBytes: generation.cacheBytes, adapterBytes: generation.adapterBytes },
  });
  const pool = new TrainerPool({
    ...DEFAULT_POOL_TIMES,
    ...(options.trainerIdleMs === undefined ? {} : { idleMs: options.trainerIdleMs }),
    jobsAtOnce,
    precisionOf: (setting) => (machine === null ? setting : precisionOn(machine, setting, 'decoder').chosen),
    isMachineAtFault: async () => (await findGpuFault()) !== null,
    start: () =>
      startTrainer({
        program,
        limits,
        onLine: (line, jobs) => log.info({ from: 'trainer', job: jobs.length > 1 ? jobs : jobs[0] }, line),
      }),
  });
  observeMachine(registry, { workerName, engine, trainerPid: () => pool.trainerPid });
  const queue = startTrainQueue({
    redis,
    prefix,
    workerName,
    lockMs: jobLockMs,
    jobsAtOnce,
    turnMs,
    order: store.queue,
    pool,
    run: (id, runOptions) =>
      runJob(
        {
          store,
          sources,
          pool,
          log,
          metrics,
          tracing,
          workerName,
          watchIntervalMs,
          jobTimeoutMs,
          findGpuFault,
          onGpuLost,
        },
        id,
        runOptions,
      ),
    log,
  });
  const stopAnswers = answerRequests({
    server: createGenerationServer({ redis, prefix, workerName }),
    pool,
    models,
    adapters,
    machine,
    weightDigests,
    log,
    metrics: createGenerationMetrics(registry),
    atOnce: generation.atOnce,
    timeoutMs: generation.timeoutMs,
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
    (error: unknown) => log.error({ err: error }, 'the queue could not be reached'),
  );

  const stopAll = async () => {
    await Promise.all([queue.stop(), stopAnswers()]);
    await endMaintenance();
  };
  let stopping: Promise<void> | undefined;
  const stop = () => {
    stopping ??= (async () => {
      if (!(await within(options.shutdownTimeoutMs * 0.9, stopAll()))) {
        log.warn('the current jobs could not be released in time; they are found by their locks running out');
        void queue.abandon();
      }
      await pool.close();
      await store.close();
    })();
    return stopping;
  };
  return { stop };
}

/** A call made while another one runs has the same result. */
function shared<Result>(work: () => Promise<Result>): () => Promise<Result> {
  let running: Promise<Result> | null = null;
  return () => {
    running ??= work().finally(() => {
      running = null;
    });
    return running;
  };
}

/** Whether the work was done in time. It continues if not. */
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
