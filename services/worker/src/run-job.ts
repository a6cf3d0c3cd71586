import type { JobId } from '@lorasmith/contracts';
import type { JobAttempt, JobStore } from '@lorasmith/queue';
import { Attempt, type AttemptOptions } from './attempt.js';
import type { AttemptOutcome } from './attempt-outcome.js';
import type { AttemptMetrics, WorkerMetrics } from './metrics/worker-metrics.js';
import { adapterIdOf } from './publish-adapter.js';
import type { TrainerPool } from './trainer/trainer-pool.js';

/** The options that differ between the attempts of a worker. */
type OfOneAttempt = 'signal' | 'pause' | 'isLast' | 'place' | 'metrics';

export interface RunJobDeps extends Omit<AttemptOptions, OfOneAttempt> {
  store: Pick<JobStore, 'attempts' | 'whileEnded' | 'readEvents' | 'gradings'>;
  pool: Pick<TrainerPool, 'place'>;
  metrics: WorkerMetrics;
  /** Shown to users as the worker of an attempt. */
  workerName: string;
}

export interface RunJobOptions extends Pick<AttemptOptions, 'signal' | 'pause' | 'isLast'> {
  /** How often the job had been resumed when it was put into the queue. */
  resumes: number;
  /** Called as soon as the trainer pool counts the job. Never called for a job that needs nothing. */
  onPlaced: () => void;
}

/** Takes a job from its record to its end, or as far as this attempt gets. */
export async function runJob(
  deps: RunJobDeps,
  id: JobId,
  { resumes, onPlaced, ...options }: RunJobOptions,
): Promise<AttemptOutcome> {
  const { store, sources, pool, workerName } = deps;
  let log = deps.log.child({ job: id });
  const start = await store.attempts.start(id, workerName, resumes);
  if (start.outcome === 'not-needed') {
    log.info({ reason: start.reason }, 'nothing to do for this job');
    if (start.reason === 'missing') await sources.folders.removeJob(id);
    return { kind: 'ended', status: 'not-needed' };
  }
  const held = start.attempt;
  log = log.child({ adapter: adapterIdOf(id), request_id: held.origin.requestId });
  log.info({ attempt: held.number }, 'job started');
  const metrics = deps.metrics.started(held.job, held.number);
  const place = pool.place(held.job);
  onPlaced();
  const attempt = () => new Attempt(held, { ...deps, ...options, log, metrics, place });
  const run = await observe(deps, metrics, held, () => complete(attempt()));
  const { kind, ...details } = run;
  log.info({ attempt: held.number, outcome: kind, ...details }, `job ${kind}`);
  return run;
}

/** Prepare, train, publish. */
async function complete(attempt: Attempt): Promise<AttemptOutcome> {
  try {
    if (await attempt.isPublished()) return await attempt.succeed();
    const order = await attempt.prepare();
    if (order === null) return await attempt.endStopped();
    const ended = await attempt.train(order);
    switch (ended.kind) {
      case 'finished':
        return await attempt.publish(order, ended.outcome);
      case 'stopped':
        return await attempt.endStopped(ended.reason);
      case 'paused':
        return await attempt.endPaused();
      case 'held':
        return await attempt.endHeld(ended);
      case 'deferred':
        return await attempt.endDeferred(ended.why);
      case 'failed':
        return await attempt.endFailed(ended.failure);
    }
  } catch (error) {
    return await attempt.endBroken(error);
  } finally {
    await attempt.close();
  }
}

/** Counts, times and traces an attempt. */
async function observe(
  { tracing, workerName }: RunJobDeps,
  metrics: AttemptMetrics,
  { job, number, origin }: JobAttempt,
  work: () => Promise<AttemptOutcome>,
): Promise<AttemptOutcome> {
  const startMs = performance.now();
  // Where even the record cannot be reached, another worker will get the job.
  let run: AttemptOutcome = { kind: 'lost' };
  try {
    const attributes = { 'lorasmith.job': job.id, 'lorasmith.attempt': number, 'lorasmith.worker': workerName };
    run = await tracing.span('run job', { parent: origin.trace, kind: 'consumer', attributes }, work);
    return run;
  } finally {
    metrics.ended(run, (performance.now() - startMs) / 1000);
  }
}
