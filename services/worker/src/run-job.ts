import type { JobId } from '@lorasmith/contracts';
import type { JobAttempt, JobStore } from '@lorasmith/job-store';
import { Attempt, type AttemptOptions, type JobRun } from './attempt.js';
import { adapterIdOf } from './publish-adapter.js';

export interface RunJobDeps extends Omit<AttemptOptions, 'signal' | 'isLast'> {
  store: Pick<JobStore, 'attempts' | 'whileEnded'>;
  /** Shown to users as the worker of an attempt. */
  workerName: string;
}

export interface RunJobOptions extends Pick<AttemptOptions, 'signal' | 'isLast'> {
  /** How often the job had been resumed when it was put into the queue. */
  resumes: number;
}

/** Takes a job from its record to its end, or as far as this attempt gets. */
export async function runJob(deps: RunJobDeps, id: JobId, { resumes, ...options }: RunJobOptions): Promise<JobRun> {
  const { store, sources, workerName } = deps;
  let log = deps.log.child({ job: id });
  const start = await store.attempts.start(id, workerName, resumes);
  if (start.outcome === 'not-needed') {
    log.info({ reason: start.reason }, 'nothing to do for this job');
    if (start.reason === 'missing') await sources.folders.removeJob(id);
    return { outcome: 'ended', status: 'not-needed' };
  }
  const held = start.attempt;
  log = log.child({ adapter: adapterIdOf(id), request_id: held.origin.requestId });
  log.info({ attempt: held.number }, 'job started');
  const run = await observe(deps, held, () => complete(new Attempt(held, { ...deps, log, ...options })));
  log.info({ attempt: held.number, ...run }, `job ${run.outcome}`);
  return run;
}

/** Prepare, train, publish. */
async function complete(attempt: Attempt): Promise<JobRun> {
  try {
    if (await attempt.isPublished()) return await attempt.succeed();
    const order = await attempt.prepare();
    if (order === null) return await attempt.endStopped();
    const result = await attempt.train(order);
    switch (result.type) {
      case 'finished':
        return await attempt.publish(order, result.outcome);
      case 'stopped':
        return await attempt.endStopped(result.reason);
      case 'failed':
        return await attempt.endFailed(result.failure);
    }
  } catch (error) {
    return await attempt.endBroken(error);
  } finally {
    await attempt.close();
  }
}

/** Counts, times and traces an attempt. */
async function observe(
  { metrics, tracing, workerName }: RunJobDeps,
  { job, number, origin }: JobAttempt,
  work: () => Promise<JobRun>,
): Promise<JobRun> {
  const startMs = performance.now();
  metrics.started(job, number);
  // Where even the record cannot be reached, another worker will get the job.
  let run: JobRun = { outcome: 'lost' };
  try {
    const attributes = { 'lorasmith.job': job.id, 'lorasmith.attempt': number, 'lorasmith.worker': workerName };
    run = await tracing.span('run job', { parent: origin.trace, kind: 'consumer', attributes }, work);
    return run;
  } finally {
    metrics.ended(run, (performance.now() - startMs) / 1000);
  }
}
