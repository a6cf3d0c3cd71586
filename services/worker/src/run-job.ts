import {
  type JobFailure,
  type JobId,
  type NewJobEvent,
  ProductError,
  type TrainingOutcome,
} from '@lorasmith/contracts';
import type { JobAttempt, JobStore } from '@lorasmith/job-store';
import type { Tracing } from '@lorasmith/service-kit';
import { asStorageError } from '@lorasmith/storage';
import type { Logger } from 'pino';
import { createEventRecorder } from './event-recorder.js';
import { keptCheckpoints } from './kept-checkpoints.js';
import { removeLateAdapter } from './late-adapters.js';
import type { WorkerMetrics } from './metrics/worker-metrics.js';
import { preparePublishing } from './prepare-publishing.js';
import { type Prepared, prepareTraining, type TrainingSources } from './prepare-training.js';
import { adapterIdOf, publishAdapter } from './publish-adapter.js';
import { openStopSignal, type StopSignal, unlessStopped } from './stop-signal.js';
import type { StopReason, TrainerOrder } from './trainer/messages.js';
import { isRetryable } from './trainer/trainer-failure.js';
import type { TrainerPool } from './trainer/trainer-pool.js';
import type { TrainingResult } from './trainer/trainer-process.js';

export interface RunJobDeps {
  store: Pick<JobStore, 'attempts' | 'getJob' | 'whileEnded'>;
  sources: TrainingSources;
  pool: TrainerPool;
  log: Logger;
  metrics: WorkerMetrics;
  tracing: Tracing;
  /** Told to users as the worker of an attempt. */
  workerName: string;
  /** @see watchAttempt */
  watchIntervalMs: number;
  /** An attempt that takes longer is stopped, and its job fails. */
  jobTimeoutMs: number;
  /** Told when the trainer did not see the GPU that it was to use: no other job gets further. */
  onGpuLost: () => void;
}

export interface RunJobOptions {
  /** Aborted by the reason {@link StopReason} when the worker may not go on. */
  signal: AbortSignal;
  /** Whether a crash now fails the job instead of giving it back for another attempt. */
  lastAttempt: boolean;
  /** How often the job had been resumed when it was put into the queue. */
  resumes: number;
}

/**
 * What the queue must know. `ended`: the record says how, nothing is left to do. `retry`: the job waits for its next
 * attempt. `handed-back`: the job waits and this was no attempt of its own fault. `lost`: somebody else has it.
 */
export type JobRun =
  | { outcome: 'ended'; status: 'succeeded' | 'cancelled' | 'not-needed' }
  | { outcome: 'ended'; status: 'failed'; failure: JobFailure }
  | { outcome: 'retry'; failure: JobFailure }
  | { outcome: 'handed-back' }
  | { outcome: 'lost' };

/** Takes a job from its record to its end, or as far as this attempt gets. */
export async function runJob(deps: RunJobDeps, id: JobId, options: RunJobOptions): Promise<JobRun> {
  const { store, sources, workerName } = deps;
  let log = deps.log.child({ job: id });
  const start = await store.attempts.start(id, workerName, options.resumes);
  if (start.outcome === 'not-needed') {
    log.info({ reason: start.reason }, 'nothing to do for this job');
    if (start.reason === 'missing') await sources.folders.removeJob(id);
    return { outcome: 'ended', status: 'not-needed' };
  }
  const { attempt } = start;
  log = log.child({ adapter: adapterIdOf(id), request_id: attempt.origin.requestId });
  log.info({ attempt: attempt.number }, 'job started');
  const run = await observeAttempt(deps, attempt, () => runAttempt({ ...deps, log }, attempt, options));
  log.info({ attempt: attempt.number, ...run }, `job ${run.outcome}`);
  return run;
}

/** Counts, times and traces an attempt. */
async function observeAttempt(
  { metrics, tracing, workerName }: RunJobDeps,
  { job, number, origin }: JobAttempt,
  work: () => Promise<JobRun>,
): Promise<JobRun> {
  const begin = performance.now();
  metrics.started(job, number);
  // Where even the record cannot be reached, somebody else will have the job.
  let run: JobRun = { outcome: 'lost' };
  try {
    const attributes = { 'lorasmith.job': job.id, 'lorasmith.attempt': number, 'lorasmith.worker': workerName };
    run = await tracing.span('run job', { parent: origin.trace, kind: 'consumer', attributes }, work);
    return run;
  } finally {
    metrics.ended(run, (performance.now() - begin) / 1000);
  }
}

async function runAttempt(deps: RunJobDeps, attempt: JobAttempt, options: RunJobOptions): Promise<JobRun> {
  const { sources } = deps;
  const { span } = deps.tracing;
  const onError = (error: unknown) => deps.log.warn({ err: error }, 'the record of a running job was not reached');
  const { watchIntervalMs, jobTimeoutMs } = deps;
  const { attempts } = deps.store;
  const stopping = openStopSignal({
    attempts,
    attempt,
    signal: options.signal,
    watchIntervalMs,
    jobTimeoutMs,
    onError,
  });
  let release = () => {};
  try {
    // The attempt before died after it had published and before it could say so.
    if (await sources.adapters.has(adapterIdOf(attempt.job.id))) return await succeed(deps, attempt);
    const { job } = attempt;
    const preparing = span(
      'prepare job',
      {},
      (): Promise<Prepared<TrainerOrder>> =>
        job.kind === 'train' ? prepareTraining(sources, attempt) : preparePublishing(sources, attempt, job.checkpoint),
    );
    // A base model may have to come from far: nobody waits for it who wants the job to stop.
    const prepared = await unlessStopped(preparing, stopping.signal, (late) => late.release());
    if (prepared === null) return await afterStop(deps, attempt, stopping.signal.reason, options);
    release = prepared.release;
    const { order } = prepared;
    const result = await span('train adapter', {}, () => trainRecorded(deps, attempt, order, stopping));
    switch (result.type) {
      case 'finished':
        return await span('publish adapter', {}, () => publish(deps, attempt, order, result.outcome, options));
      case 'stopped':
        return await afterStop(deps, attempt, result.reason, options);
      case 'failed':
        await sources.folders.removeHalfWritten(attempt);
        if (result.failure.code !== 'gpu_unavailable') {
          return await afterFailure(deps, attempt, result.failure, options);
        }
        deps.onGpuLost();
        return await afterStop(deps, attempt, 'shutdown', options);
    }
  } catch (error) {
    const known = asStorageError(error);
    if (!(known instanceof ProductError)) deps.log.error({ err: error }, 'job went wrong outside its training');
    return await afterFailure(deps, attempt, failureOf(known), options);
  } finally {
    stopping.end();
    release();
    await sources.folders.removeAttempt(attempt);
  }
}

/** Trains with events going out. */
async function trainRecorded(
  deps: RunJobDeps,
  attempt: JobAttempt,
  order: TrainerOrder,
  { signal, stop, end }: StopSignal,
): Promise<TrainingResult> {
  const { attempts } = deps.store;
  const listKept = async () =>
    'checkpointFolder' in order.paths ? await keptCheckpoints(attempt.job.id, order.paths.checkpointFolder) : undefined;
  const onError = (error: unknown) => deps.log.warn({ err: error }, 'the record of a running job was not reached');
  const recorder = createEventRecorder({
    write: async (event) => {
      const kept = isAboutCheckpoints(event) ? await listKept() : undefined;
      if ((await attempts.record(attempt, event, kept)) === 'stale') stop('lost-lock');
    },
    onError,
  });
  let stored = Promise.resolve();
  const storeCheckpoints = () => {
    stored = deps.sources.folders.storeCheckpoints(attempt).catch((error: unknown) => {
      deps.log.warn({ err: error }, 'a checkpoint could not be stored for other hosts; the next one is tried');
    });
  };
  try {
    return await deps.pool.train(order, {
      signal,
      onEvent: (event) => {
        deps.metrics.happened(event);
        recorder.add(event);
        if (event.type === 'checkpoint-saved') storeCheckpoints();
      },
    });
  } finally {
    end();
    // Whoever gets the job next may be on another host.
    await stored;
    await recorder.flush();
    // One that a trainer saved and was killed before it could tell.
    await listKept()
      .then((kept) => (kept === undefined ? undefined : attempts.recordCheckpoints(attempt, kept)))
      .catch(onError);
  }
}

function isAboutCheckpoints({ type }: NewJobEvent): boolean {
  return type === 'checkpoint-saved' || type === 'checkpoint-loaded';
}

async function publish(
  deps: RunJobDeps,
  attempt: JobAttempt,
  order: TrainerOrder,
  outcome: TrainingOutcome,
  options: RunJobOptions,
): Promise<JobRun> {
  const published = await publishAdapter({
    adapters: deps.sources.adapters,
    attempt,
    outcome,
    outputFolder: order.paths.outputFolder,
    beginPublishing: () => deps.store.attempts.beginPublishing(attempt),
  });
  if (published === 'done') {
    const run = await succeed(deps, attempt, outcome.result.adapter_step);
    if (run.outcome === 'lost') await withdrawAdapter(deps, attempt.job.id);
    return run;
  }
  return await afterStop(deps, attempt, published === 'cancel-requested' ? 'cancel' : 'lost-lock', options);
}

async function succeed(deps: RunJobDeps, attempt: JobAttempt, step?: number): Promise<JobRun> {
  const { id, kind } = attempt.job;
  if ((await deps.store.attempts.succeed(attempt, adapterIdOf(id), step)) !== 'done') return { outcome: 'lost' };
  // One that trained keeps its last checkpoints.
  if (kind === 'publish-checkpoint') await deps.sources.folders.removeJob(id);
  return { outcome: 'ended', status: 'succeeded' };
}

async function afterStop(
  deps: RunJobDeps,
  attempt: JobAttempt,
  reason: StopReason,
  options: RunJobOptions,
): Promise<JobRun> {
  const { attempts } = deps.store;
  if (reason === 'lost-lock') return { outcome: 'lost' };
  if (reason === 'time-limit') return await afterFailure(deps, attempt, timedOut(deps), options);
  if (reason !== 'cancel') {
    const released = await attempts.release(attempt);
    if (released === 'done') return { outcome: 'handed-back' };
    if (released === 'stale') return { outcome: 'lost' };
  }
  if ((await attempts.cancel(attempt)) !== 'done') return { outcome: 'lost' };
  await withdrawAdapter(deps, attempt.job.id);
  return { outcome: 'ended', status: 'cancelled' };
}

async function withdrawAdapter({ store, sources, log }: RunJobDeps, id: JobId): Promise<void> {
  const removed = await removeLateAdapter({ store, adapters: sources.adapters }, id);
  if (removed) log.warn('an adapter that came too late was taken back');
}

async function afterFailure(
  deps: RunJobDeps,
  attempt: JobAttempt,
  failure: JobFailure,
  options: RunJobOptions,
): Promise<JobRun> {
  if (isRetryable(failure) && !options.lastAttempt) {
    const handed = await afterStop(deps, attempt, 'shutdown', options);
    return handed.outcome === 'handed-back' ? { outcome: 'retry', failure } : handed;
  }
  const failed = await deps.store.attempts.fail(attempt, failure);
  if (failed === 'done') await withdrawAdapter(deps, attempt.job.id);
  return failed === 'done' ? { outcome: 'ended', status: 'failed', failure } : { outcome: 'lost' };
}

function timedOut({ jobTimeoutMs }: RunJobDeps): JobFailure {
  return {
    code: 'job_timed_out',
    message:
      `The job was not done within the ${jobTimeoutMs / 1000} s that it may take (JOB_TIMEOUT_MS) and was stopped with a ` +
      'checkpoint. Resume it to go on from there, or train fewer steps.',
    details: [],
  };
}

function failureOf(error: unknown): JobFailure {
  if (error instanceof ProductError) return { code: error.code, message: error.message, details: error.details };
  return {
    code: 'internal_error',
    message: "The job went wrong outside its training; the worker's log says how. Try again.",
    details: [],
  };
}
