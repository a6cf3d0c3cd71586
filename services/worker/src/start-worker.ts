import path from 'node:path';
import { openModelSource } from '@lorasmith/base-models';
import { inTime, SingleFlight } from '@lorasmith/concurrency';
import { WEIGHT_DIGESTS_FOLDER, WeightDigests } from '@lorasmith/model-folder';
import { openExampleStore, precisionOn, SHARED_PASS_TOKENS } from '@lorasmith/planning';
import { createGenerationServer, createJobStore } from '@lorasmith/queue';
import type { Registry, Tracing } from '@lorasmith/service-kit';
import type { Stores } from '@lorasmith/storage';
import type { Redis } from 'ioredis';
import type { Logger } from 'pino';
import { createCheckpointMirror } from './checkpoint-mirror.js';
import type { ChosenEngine } from './device/choose-engine.js';
import { watchLoad } from './device/machine-load.js';
import { gpuFault } from './device/try-gpu.js';
import { answerRequests } from './generation/answer-requests.js';
import { createGenerationMetrics } from './generation/generation-metrics.js';
import { createJobFolders } from './job-folders.js';
import { profileMachine } from './machine-profile.js';
import { startMaintenance } from './maintenance.js';
import { observeMachine } from './metrics/machine-metrics.js';
import { createWorkerMetrics } from './metrics/worker-metrics.js';
import { runJob } from './run-job.js';
import type { WorkerConfig } from './settings.js';
import { startTrainQueue } from './train-queue.js';
import { trainerProgram } from './trainer/trainer-environment.js';
import { DEFAULT_POOL_TIMES, TrainerPool } from './trainer/trainer-pool.js';
import {
  DEFAULT_TRAINER_LIMITS,
  startTrainer as startTrainerProcess,
  type TrainerProcess,
  type TrainerProcessOptions,
} from './trainer/trainer-process.js';

const HOUR_MS = 3_600_000;

/** Files of the processes that a worker starts. */
export interface WorkerPrograms {
  /** It trains, and is started for the base model in use. */
  trainer: string;
  /** It measures the machine; null: the machine is not measured. */
  probe: string | null;
  /** It tries the GPU after a trainer has failed on it; null: the GPU is not tried. */
  tryGpu: string | null;
}

export interface WorkerOptions {
  config: WorkerConfig;
  /** Stays the caller's. Must wait for Redis as long as it takes (`maxRetriesPerRequest: null`). */
  redis: Redis;
  /** Where datasets, adapters and checkpoints are. */
  stores: Stores;
  programs: WorkerPrograms;
  /** The engine that trainers compute with. */
  engine: ChosenEngine;
  /** Starts a trainer. @defaultValue a process of `programs.trainer` */
  startTrainer?: (options: TrainerProcessOptions) => TrainerProcess;
  log: Logger;
  /** Where the metrics are registered. */
  metrics: Registry;
  tracing: Tracing;
  /** Called when the GPU is lost: the worker releases its jobs and stops. Its process should end. */
  onGpuLost: (fault: string) => void;
  /** Time between two looks at a running job for a cancel. @defaultValue 1 000 */
  watchIntervalMs?: number;
}

export interface WorkerService {
  /** Releases the current jobs, with a checkpoint each, and ends; never takes longer than the shutdown timeout. */
  stop(): Promise<void>;
}

/** Takes jobs from the queue until it is stopped. While Redis is unavailable, it waits. */
export async function startWorker(options: WorkerOptions): Promise<WorkerService> {
  const { config, redis, stores, programs, engine, log, metrics: registry, tracing } = options;
  const { watchIntervalMs = 1_000, startTrainer = startTrainerProcess } = options;
  const { dataDir, modelsDir, workerName, turnMs, generation } = config;
  const { prefix } = config.redis;
  const store = createJobStore({ redis, prefix, timeSliceMs: turnMs });
  const adapters = await stores.open('adapters');
  const datasets = await stores.open('datasets');
  const weightDigests = path.join(dataDir, WEIGHT_DIGESTS_FOLDER);
  const models = await openModelSource({ modelsDir, stores, digests: new WeightDigests(weightDigests) });
  // Enough for the trainer's checkpoint, and less than the time that this process itself has.
  const shutdownMs = Math.min(DEFAULT_TRAINER_LIMITS.stopMs.shutdown, config.shutdownTimeoutMs * 0.6);
  const limits = {
    ...DEFAULT_TRAINER_LIMITS,
    silenceMs: config.trainerSilenceMs,
    stopMs: { ...DEFAULT_TRAINER_LIMITS.stopMs, shutdown: shutdownMs },
  };
  const folders = createJobFolders({
    dataDir,
    retentionMs: config.checkpointsKeptHours * HOUR_MS,
    quotas: config.checkpointBytes,
    // Where the data folder is the store, hosts that share it share the checkpoints in it.
    mirror: stores.shared ? createCheckpointMirror(await stores.open('checkpoints')) : null,
  });
  // Before the first trainer and the first job, so that they do not compete for the machine.
  const { probe: probeProgram } = programs;
  const machine =
    probeProgram === null
      ? null
      : await profileMachine({
          ...{ dataDir, workerName, engine, probeProgram, log },
          sizes: config.gpuSelfTest,
          passTokens: config.passTokens,
        });
  if (machine !== null) {
    // It runs, so no other worker with such a machine replaces it.
    store.queue
      .announce(workerName, { slots: config.jobsAtOnce, held: [], workerClass: config.workerClass })
      .then(() => store.machines.publish(machine))
      .catch((error: unknown) => log.warn({ err: error }, 'the measurements of the machine could not be published'));
  }
  const tokens = { dataDir, maxBytes: config.tokenCacheBytes };
  const sources = { models, datasets, adapters, folders, machine, tokens, weightDigests };
  const metrics = createWorkerMetrics(registry);
  const examples = await openExampleStore(tokens);
  let isGpuLost = false;
  const onGpuLost = (fault: string) => {
    // Each of its jobs finds out.
    if (isGpuLost) return;
    isGpuLost = true;
    log.error({ fault }, 'the GPU is lost: jobs are released to the queue, and this worker takes no more jobs');
    void stop();
    options.onGpuLost(fault);
  };
  const { tryGpu } = programs;
  const gpuTrials = new SingleFlight<string | null>();
  const findGpuFault = () =>
    gpuTrials.run('', async () =>
      engine.kind === 'cpu' || tryGpu === null ? null : await gpuFault(tryGpu, engine.environment),
    );
  const program = trainerProgram(programs.trainer, engine, {
    passTokens: machine?.pass_tokens ?? config.passTokens ?? SHARED_PASS_TOKENS,
    generationShare: generation.share,
    generationMemory: { cacheBytes: generation.cacheBytes, adapterBytes: generation.adapterBytes },
  });
  const pool = new TrainerPool({
    ...DEFAULT_POOL_TIMES,
    idleMs: config.trainerIdleMs,
    jobsAtOnce: config.jobsAtOnce,
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
  const load = watchLoad({ card: engine.card });
  const queue = startTrainQueue({
    redis,
    prefix,
    workerName,
    lockMs: config.jobLockMs,
    jobsAtOnce: config.jobsAtOnce,
    turnMs,
    memory: machine?.memory_bytes ?? null,
    workerClass: config.workerClass,
    order: store.queue,
    pool,
    load: load.latest,
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
          jobTimeoutMs: config.jobTimeoutMs,
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
    load.stop();
    await Promise.all([queue.stop(), stopAnswers()]);
    await endMaintenance();
  };
  let stopping: Promise<void> | undefined;
  const stop = () => {
    stopping ??= (async () => {
      const stopped = stopAll().then(() => true);
      if (!(await inTime(stopped, config.shutdownTimeoutMs * 0.9, () => false))) {
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
