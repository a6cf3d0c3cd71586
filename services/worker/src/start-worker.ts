import path from 'node:path';
import { openModelSource } from '@lorasmith/base-models';
import { inTime, SingleFlight } from '@lorasmith/concurrency';
import type { MachineProfile } from '@lorasmith/contracts';
import { WEIGHT_DIGESTS_FOLDER, WeightDigests } from '@lorasmith/model-folder';
import { openExampleStore, precisionOn, SHARED_PASS_TOKENS } from '@lorasmith/planning';
import { createGenerationServer, createJobStore, type JobStore, TrainingSessionServer } from '@lorasmith/queue';
import type { Registry, Tracing } from '@lorasmith/service-kit';
import type { BundleStore, Stores } from '@lorasmith/storage';
import type { Redis } from 'ioredis';
import type { Logger } from 'pino';
import { CheckpointMirror } from './checkpoint-mirror.js';
import type { ChosenEngine } from './device/choose-engine.js';
import { gpuFault } from './device/gpu-probes.js';
import { watchLoad } from './device/machine-load.js';
import { FolderSweeps } from './folder-cleanup.js';
import { answerRequests } from './generation/answer-requests.js';
import { JobFolders } from './job-folders.js';
import { JobTaker } from './job-taker.js';
import { profileMachine } from './machine-profile.js';
import { startMaintenance } from './maintenance.js';
import type { OrderSources } from './prepare-order.js';
import { runJob } from './run-job.js';
import { serveSessions } from './sessions/serve-sessions.js';
import type { WorkerConfig } from './settings.js';
import { DEFAULT_POOL_TIMES, TrainerPool } from './trainer/trainer-pool.js';
import {
  DEFAULT_TRAINER_LIMITS,
  startTrainer as startTrainerProcess,
  type TrainerProcess,
  type TrainerProcessOptions,
} from './trainer/trainer-process.js';
import { trainerEnvironment, trainerProgram } from './trainer/trainer-program.js';
import { createGenerationMetrics, createWorkerMetrics, observeMachine } from './worker-metrics.js';

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
  /** The stores of datasets, adapters and checkpoints. */
  stores: Stores;
  programs: WorkerPrograms;
  /** The engine that trainers compute with. */
  engine: ChosenEngine;
  /** Starts a trainer. @defaultValue a process of `programs.trainer` */
  startTrainer?: (options: TrainerProcessOptions) => TrainerProcess;
  log: Logger;
  /** The registry of the metrics. */
  metrics: Registry;
  tracing: Tracing;
  /** Called when the GPU is lost: the worker releases its jobs and stops. Its process should end. */
  onGpuLost: (fault: string) => void;
  /** The time between two looks at a running job for a cancel. @defaultValue 1 000 */
  watchIntervalMs?: number;
}

export interface WorkerService {
  /** Releases the current jobs, with a checkpoint each, and ends; never takes longer than the shutdown timeout. */
  stop(): Promise<void>;
}

/** Takes jobs from the queue until it is stopped. While Redis is unavailable, it waits. */
export async function startWorker(options: WorkerOptions): Promise<WorkerService> {
  const { config, redis, stores, log, metrics: registry, engine } = options;
  const { workerName, timeSliceMs, generation } = config;
  const { prefix } = config.redis;
  const store = createJobStore({ redis, prefix, timeSliceMs });
  const files = await openFiles(options);
  // Before the first trainer and the first job, so that they do not compete for the machine.
  const machine = await measureMachine(options);
  if (machine !== null) publishMachine(store, machine, options);
  const metrics = createWorkerMetrics(registry);
  const examples = await openExampleStore(files.tokens);
  const gpu = watchGpu(options, () => void stop());
  const pool = startPool(options, machine, gpu.findFault);
  observeMachine(registry, { workerName, engine, trainerPid: () => pool.trainerPid });
  const load = watchLoad({ card: engine.card });
  const job = {
    ...{ store, pool, log, metrics, workerName, tracing: options.tracing },
    sources: { ...files, machine },
    watchIntervalMs: options.watchIntervalMs ?? 1_000,
    jobTimeoutMs: config.jobTimeoutMs,
    findGpuFault: gpu.findFault,
    onGpuLost: gpu.onLost,
  };
  const queue = new JobTaker({
    ...{ redis, prefix, workerName, pool, timeSliceMs, log },
    lockMs: config.jobLockMs,
    jobsAtOnce: config.jobsAtOnce,
    memory: machine?.memory_bytes ?? null,
    workerClass: config.workerClass,
    queue: store.queue,
    load: load.latest,
    run: (id, runOptions) => runJob(job, id, runOptions),
  });
  const stopAnswers = answerRequests({
    ...{ pool, machine, log },
    server: createGenerationServer({ redis, prefix, workerName }),
    models: files.models,
    adapters: files.adapters,
    snapshots: await stores.open('snapshots'),
    weightDigests: files.weightDigests,
    metrics: createGenerationMetrics(registry),
    atOnce: generation.atOnce,
    timeoutMs: generation.timeoutMs,
  });
  const sessions = new TrainingSessionServer({ redis, prefix, workerName });
  const stopSessions = serveSessions({ pool, machine, log, ...files, server: sessions });
  const { adapters, datasets, folders, snapshots } = files;
  const retentionMs = config.checkpointsKeptHours * HOUR_MS;
  const sweeps = new FolderSweeps({ folders, retentionMs, quotas: config.checkpointBytes });
  const { sweepStagings } = stores;
  const repaired = { store, sweeps, adapters, datasets, sweepStagings, sessions, snapshots, examples };
  const endMaintenance = startMaintenance({ ...repaired, log });
  queue.ready().then(
    () => log.info({ worker: workerName }, 'ready for jobs'),
    (error: unknown) => log.error({ err: error }, 'the queue could not be reached'),
  );

  const stopAll = async () => {
    load.stop();
    await Promise.all([queue.stop(), stopAnswers(), stopSessions()]);
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

/** Opens what jobs read and write on this host and in the stores. */
async function openFiles({
  config,
  stores,
}: WorkerOptions): Promise<Omit<OrderSources, 'machine'> & { snapshots: BundleStore }> {
  const { dataDir, modelsDir } = config;
  const weightDigests = path.join(dataDir, WEIGHT_DIGESTS_FOLDER);
  return {
    adapters: await stores.open('adapters'),
    datasets: await stores.open('datasets'),
    snapshots: await stores.open('snapshots'),
    models: await openModelSource({ modelsDir, stores, digests: new WeightDigests(weightDigests) }),
    folders: new JobFolders({
      dataDir,
      // Where the data folder is the store, hosts that share it share the checkpoints in it.
      mirror: stores.shared ? new CheckpointMirror(await stores.open('checkpoints')) : null,
    }),
    tokens: { dataDir, maxBytes: config.tokenCacheBytes },
    weightDigests,
  };
}

async function measureMachine({ config, programs, engine, log }: WorkerOptions): Promise<MachineProfile | null> {
  const { dataDir, workerName, gpuSelfTest: sizes, passTokens } = config;
  const { probe: probeProgram } = programs;
  if (probeProgram === null) return null;
  return await profileMachine({ dataDir, workerName, engine, probeProgram, sizes, passTokens, log });
}

function publishMachine(store: JobStore, machine: MachineProfile, { config, log }: WorkerOptions): void {
  // It runs, so no other worker with such a machine replaces it.
  store.queue
    .announce(config.workerName, { slots: config.jobsAtOnce, held: [], workerClass: config.workerClass })
    .then(() => store.machines.publish(machine))
    .catch((error: unknown) => log.warn({ err: error }, 'the measurements of the machine could not be published'));
}

/** Finds out if the GPU still computes when a trainer has failed on it, and reports once that it does not. */
function watchGpu(
  { engine, programs, log, onGpuLost }: WorkerOptions,
  stop: () => void,
): { findFault: () => Promise<string | null>; onLost: (fault: string) => void } {
  const { tryGpu } = programs;
  const trials = new SingleFlight<string | null>();
  let isLost = false;
  return {
    findFault: () =>
      trials.run('', async () =>
        engine.kind === 'cpu' || tryGpu === null
          ? null
          : await gpuFault(tryGpu, trainerEnvironment(engine.environment)),
      ),
    onLost(fault) {
      // Each of its jobs finds out.
      if (isLost) return;
      isLost = true;
      log.error({ fault }, 'the GPU is lost: jobs are released to the queue, and this worker takes no more jobs');
      stop();
      onGpuLost(fault);
    },
  };
}

function startPool(
  { config, programs, engine, log, startTrainer = startTrainerProcess }: WorkerOptions,
  machine: MachineProfile | null,
  findGpuFault: () => Promise<string | null>,
): TrainerPool {
  const { generation } = config;
  // Enough for the trainer's checkpoint, and less than the time that this process itself has.
  const shutdownMs = Math.min(DEFAULT_TRAINER_LIMITS.stopMs.shutdown, config.shutdownTimeoutMs * 0.6);
  const limits = {
    ...DEFAULT_TRAINER_LIMITS,
    silenceMs: config.trainerSilenceMs,
    stopMs: { ...DEFAULT_TRAINER_LIMITS.stopMs, shutdown: shutdownMs },
  };
  const program = trainerProgram(programs.trainer, engine, {
    passTokens: machine?.pass_tokens ?? config.passTokens ?? SHARED_PASS_TOKENS,
    generationShare: generation.share,
    generationMemory: { cacheBytes: generation.cacheBytes, adapterBytes: generation.adapterBytes },
  });
  return new TrainerPool({
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
}
