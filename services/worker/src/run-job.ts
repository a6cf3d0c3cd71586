import type { JobId } from '@lorasmith/contracts';
import type { JobAttempt, JobStore } from '@lorasmith/queue';
import { Attempt, type AttemptOptions } from './attempt.js';
import type { AttemptOutcome } from './attempt-end.js';
import { adapterIdOf } from './publish-adapter.js';
import type { TrainerPool } from './trainer/trainer-pool.js';
import type { AttemptMetrics, WorkerMetrics } from './worker-metrics.js';

/** The options that differ between the attempts of a worker. */
type OfOneAttempt = 'signal' | 'pause' | 'isLast' | 'member' | 'metrics';

export interface RunJobDeps extends Omit<AttemptOptions, OfOneAttempt> {
  store: Pick<JobStore, 'attempts' | 'whileEnded' | 'readEvents' | 'gradings'>;
  pool: Pick<TrainerPool, 'add'>;
  metrics: WorkerMetrics;
  /** Shown to users as the worker of an attempt. */
  workerName: string;
}

export interface RunJobOptions extends Pick<AttemptOptions, 'signal' | 'pause' | 'isLast'> {
  /** The count of resumes of the job when it was put into the queue. */
  resumes: number;
  /** Called as soon as the trainer pool counts the job. Never called for a job that needs nothing. */
  onCounted: () => void;
}

/** Takes a job from its record to its end, or as far as this attempt gets. */
export async function runJob(
  deps: RunJobDeps,
  id: JobId,
  { resumes, onCounted, ...options }: RunJobOptions,
): Promise<AttemptOutcome> {
  const { store, sources, pool, workerName } = deps;
  let log = deps.log.child({ job: id });
  const start = await store.attempts.start(id, workerName, resumes);
  if (start.outcome === 'not-needed') {
    log.info({ reason: start.reason }, 'nothing to do for this job');
    if (start.reason === 'missing') await sources.folders.removeJob(id);
    return { kind: 'ended', status: 'not-needed' };
  }
  const { attempt: started } = start;
  log = log.child({ adapter: adapterIdOf(id), request_id: started.origin.requestId });
  log.info({ attempt: started.number }, 'job started');
  const metrics = deps.metrics.started(started.job, started.number);
  const member = pool.add(started.job);
  onCounted();
  const run = await observe(deps, metrics, started, () =>
    complete(new Attempt(started, { ...deps, ...options, log, metrics, member })),
  );
  const { kind, ...details } = run;
  log.info({ attempt: started.number, outcome: kind, ...details }, `job ${kind}`);
  return run;
}

/** Prepare, train, publish. */
async function complete(attempt: Attempt): Promise<AttemptOutcome> {
  try {
    if (await attempt.isPublished()) return await attempt.end({ kind: 'published' });
    const order = await attempt.prepare();
    if (order.kind === 'stopped') return await attempt.end(order);
    const ended = await attempt.train(order);
    return ended.kind === 'finished' ? await attempt.publish(order, ended.outcome) : await attempt.end(ended);
  } catch (error) {
    return await attempt.end({ kind: 'broken', error });
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
  // Kept if even the record cannot be reached.
  let run: AttemptOutcome = { kind: 'lost' };
  try {
    const attributes = { 'lorasmith.job': job.id, 'lorasmith.attempt': number, 'lorasmith.worker': workerName };
    run = await tracing.span('run job', { parent: origin.trace, kind: 'consumer', attributes }, work);
    return run;
  } finally {
    metrics.ended(run, (performance.now() - startMs) / 1000);
  }
}
