import { type JobFailure, type JobId, ProductError } from '@lorasmith/contracts';
import type { JobAttempt, JobStore } from '@lorasmith/job-store';
import type { Logger } from 'pino';
import { createEventRecorder } from './event-recorder.js';
import { prepareTraining, type TrainingSources } from './prepare-training.js';
import { adapterIdOf, publishAdapter } from './publish-adapter.js';
import type { StopReason, TrainingOrder, TrainingOutcome } from './trainer/messages.js';
import { isRetryable } from './trainer/trainer-failure.js';
import type { TrainerPool } from './trainer/trainer-pool.js';
import type { TrainingResult } from './trainer/trainer-process.js';
import { watchAttempt } from './watch-attempt.js';

export interface RunJobDeps {
  store: Pick<JobStore, 'attempts'>;
  sources: TrainingSources;
  pool: TrainerPool;
  log: Logger;
  /** Told to users as the worker of an attempt. */
  workerName: string;
  /** @see watchAttempt */
  watchIntervalMs: number;
}

export interface RunJobOptions {
  /** Aborted by the reason {@link StopReason} when the worker may not go on. */
  signal: AbortSignal;
  /** Whether a crash now fails the job instead of giving it back for another attempt. */
  lastAttempt: boolean;
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
  const log = deps.log.child({ job: id });
  const start = await store.attempts.start(id, workerName);
  if (start.outcome === 'not-needed') {
    log.info({ reason: start.reason }, 'nothing to do for this job');
    if (start.reason !== 'failed') await sources.folders.removeJob(id);
    return { outcome: 'ended', status: 'not-needed' };
  }
  const { attempt } = start;
  log.info({ attempt: attempt.number }, 'job started');
  const run = await runAttempt({ ...deps, log }, attempt, options);
  log.info({ attempt: attempt.number, ...run }, `job ${run.outcome}`);
  return run;
}

async function runAttempt(deps: RunJobDeps, attempt: JobAttempt, options: RunJobOptions): Promise<JobRun> {
  const { sources } = deps;
  const adapter = adapterIdOf(attempt.job.id);
  // The attempt before died after it had published and before it could say so.
  if (await sources.adapters.has(adapter)) return await succeed(deps, attempt);
  let release = () => {};
  try {
    const prepared = await prepareTraining(sources, attempt);
    release = prepared.release;
    const { order } = prepared;
    const result = await trainWatched(deps, attempt, order, options.signal);
    switch (result.type) {
      case 'finished':
        return await publish(deps, attempt, order, result.outcome);
      case 'stopped':
        return await afterStop(deps, attempt, result.reason);
      case 'failed':
        return await afterFailure(deps, attempt, result.failure, options);
    }
  } catch (error) {
    if (!(error instanceof ProductError)) deps.log.error({ err: error }, 'job went wrong outside its training');
    return await afterFailure(deps, attempt, failureOf(error), options);
  } finally {
    release();
    await sources.folders.removeAttempt(attempt);
  }
}

/** Trains with events going out, and with an eye on cancel and loss. */
async function trainWatched(
  deps: RunJobDeps,
  attempt: JobAttempt,
  order: TrainingOrder,
  signal: AbortSignal,
): Promise<TrainingResult> {
  const { attempts } = deps.store;
  const stopping = new AbortController();
  const onError = (error: unknown) => deps.log.warn({ err: error }, 'the record of a running job was not reached');
  const recorder = createEventRecorder({
    write: async (event) => {
      if ((await attempts.record(attempt, event)) === 'stale') stopping.abort('lost-lock' satisfies StopReason);
    },
    onError,
  });
  const endWatch = watchAttempt({
    attempts,
    attempt,
    intervalMs: deps.watchIntervalMs,
    onStop: (reason) => stopping.abort(reason),
    onError,
  });
  try {
    return await deps.pool.train(order, {
      signal: AbortSignal.any([signal, stopping.signal]),
      onEvent: (event) => recorder.add(event),
    });
  } finally {
    endWatch();
    await recorder.flush();
  }
}

async function publish(
  deps: RunJobDeps,
  attempt: JobAttempt,
  order: TrainingOrder,
  outcome: TrainingOutcome,
): Promise<JobRun> {
  const published = await publishAdapter({
    adapters: deps.sources.adapters,
    attempt,
    dataset: order.dataset,
    outcome,
    outputFolder: order.paths.outputFolder,
    beginPublishing: () => deps.store.attempts.beginPublishing(attempt),
  });
  if (published === 'done') return await succeed(deps, attempt);
  return await afterStop(deps, attempt, published === 'cancel-requested' ? 'cancel' : 'lost-lock');
}

async function succeed(deps: RunJobDeps, attempt: JobAttempt): Promise<JobRun> {
  const { id } = attempt.job;
  if ((await deps.store.attempts.succeed(attempt, adapterIdOf(id))) !== 'done') return { outcome: 'lost' };
  await deps.sources.folders.removeJob(id);
  return { outcome: 'ended', status: 'succeeded' };
}

async function afterStop(deps: RunJobDeps, attempt: JobAttempt, reason: StopReason): Promise<JobRun> {
  const { attempts } = deps.store;
  if (reason === 'lost-lock') return { outcome: 'lost' };
  if (reason !== 'cancel') {
    const released = await attempts.release(attempt);
    if (released === 'done') return { outcome: 'handed-back' };
    if (released === 'stale') return { outcome: 'lost' };
  }
  if ((await attempts.cancel(attempt)) !== 'done') return { outcome: 'lost' };
  await deps.sources.folders.removeJob(attempt.job.id);
  return { outcome: 'ended', status: 'cancelled' };
}

async function afterFailure(
  deps: RunJobDeps,
  attempt: JobAttempt,
  failure: JobFailure,
  { lastAttempt }: RunJobOptions,
): Promise<JobRun> {
  if (isRetryable(failure) && !lastAttempt) {
    const handed = await afterStop(deps, attempt, 'shutdown');
    return handed.outcome === 'handed-back' ? { outcome: 'retry', failure } : handed;
  }
  const failed = await deps.store.attempts.fail(attempt, failure);
  return failed === 'done' ? { outcome: 'ended', status: 'failed', failure } : { outcome: 'lost' };
}

function failureOf(error: unknown): JobFailure {
  if (error instanceof ProductError) return { code: error.code, message: error.message, details: error.details };
  return {
    code: 'internal_error',
    message: "The job went wrong outside its training; the worker's log says how. Try again.",
    details: [],
  };
}
