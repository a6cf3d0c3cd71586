import type { AliasStore } from '@lorasmith/artifacts';
import { pause } from '@lorasmith/concurrency';
import {
  type AdapterId,
  type JobId,
  type NewSweepEvent,
  ProductError,
  type SweepDirection,
  type SweepId,
  type SweepMetric,
} from '@lorasmith/contracts';
import {
  endField,
  type JobOfSweep,
  type JobStore,
  type RecordedRung,
  type SweepOutcome,
  type SweepRecord,
} from '@lorasmith/queue';
import type { BundleStore } from '@lorasmith/storage';
import { type AtRung, decideRung, metricOf, metricValue, rankingOf, stepOfRung } from '@lorasmith/sweeps';
import type { FastifyBaseLogger } from 'fastify';
import type { RegistryClient } from '../adapters/registry-client.js';
import { beginAdapterDeletion } from '../adapters/registry-client.js';
import { hasEnded, keepsAdapter, rungAnswer } from './sweep-answer.js';

export interface AdvanceOptions {
  jobs: Pick<JobStore, 'sweeps' | 'requestPause' | 'requestCancel' | 'resumeJob' | 'inputs'>;
  adapters: Pick<BundleStore, 'has'>;
  aliases: Pick<AliasStore, 'pointingTo'>;
  registry: Pick<RegistryClient, 'removeAdapter'>;
}

/**
 * Does what is next for a sweep: asks its jobs for what the user wants, and once all have ended, records which is the best and deletes
 * the adapters of the others.
 *
 * What to do follows from the records alone, everything that is recorded is recorded once, and everything else may be done twice. So several
 * processes may advance a sweep at the same time, and one that dies is continued by another.
 *
 * @throws ProductError `redis_unavailable`, `registry_unavailable`, `storage_unavailable`
 */
export async function advanceSweep(options: AdvanceOptions, id: SweepId): Promise<void> {
  const { sweeps } = options.jobs;
  const sweep = await sweeps.get(id);
  if (sweep === null) return await sweeps.finish(id);
  if (sweep.outcome === null && !sweep.isSettled) await askAll(options, sweep);
  const jobs = await sweeps.jobs(sweep.variants.map(({ job }) => job));
  if (sweep.outcome === null) await reportEnds(options, sweep, jobs);
  if (sweep.outcome === null && sweep.wanted === 'run') await climb(options, sweep, jobs);
  if (!jobs.every(hasEnded)) return;
  const outcome = sweep.outcome ?? (await conclude(options, sweep, jobs));
  if (outcome !== null) await deleteLosers(options, sweep, outcome, jobs);
  await sweeps.finish(id);
}

const ASK = {
  pause: (jobs: AdvanceOptions['jobs'], id: JobId) => jobs.requestPause(id),
  cancel: (jobs: AdvanceOptions['jobs'], id: JobId) => jobs.requestCancel(id),
  run: (jobs: AdvanceOptions['jobs'], id: JobId) => jobs.resumeJob(id, { onlyPaused: true }),
} as const;

/** Answers of a job for which there is nothing to do: it has ended, is being published, or does already what is asked. */
const NOTHING_TO_DO = ['job_not_pausable', 'job_not_cancellable', 'job_not_resumable', 'job_not_found'];

async function askAll({ jobs }: AdvanceOptions, { id, wanted, variants }: SweepRecord): Promise<void> {
  const states = await jobs.sweeps.jobs(variants.map(({ job }) => job));
  for (const [index, state] of states.entries()) {
    // A resume would queue jobs again that have failed, and those that wait for the decision at a rung.
    if (hasEnded(state) || (wanted === 'run' && state?.pausedAtStep != null)) continue;
    await ASK[wanted](jobs, variants[index]!.job).catch(ignoreIfNothingToDo);
  }
  await jobs.sweeps.settle(id, wanted);
}

function ignoreIfNothingToDo(error: unknown): void {
  if (!(error instanceof ProductError) || !NOTHING_TO_DO.includes(error.code)) throw error;
}

/** Writes the events of the variants that have ended since. */
async function reportEnds(
  { jobs }: AdvanceOptions,
  { id, request, variants, reportedEnds }: SweepRecord,
  states: (JobOfSweep | null)[],
): Promise<void> {
  const { metric } = metricOf(request);
  for (const [index, state] of states.entries()) {
    if (state === null || !hasEnded(state)) continue;
    const { status, resumes } = state;
    if (reportedEnds.has(endField(index, resumes))) continue;
    await jobs.sweeps.reportEnd(
      id,
      { index, resumes },
      {
        type: 'variant-ended',
        data: { variant: index + 1, job: variants[index]!.job, status, metric: resultOf(state, metric) },
      },
    );
  }
}

/** Decides at each rung to which all have come that are left, and carries out what was decided. */
async function climb(
  { jobs }: AdvanceOptions,
  { id, request, variants, rungs }: SweepRecord,
  states: (JobOfSweep | null)[],
): Promise<void> {
  if (request.halving === undefined) return;
  const { metric, direction } = metricOf(request);
  const decide = async (rung: number, step: number, left: readonly number[]) => {
    const here = new Map(left.map((index) => [index, atRung(states[index] ?? null, step, metric)]));
    const decision = decided(here, step, direction);
    if (decision === null) return null;
    const event: NewSweepEvent = { type: 'rung-decided', data: { rung: rungAnswer(left, decision) } };
    return await jobs.sweeps.decide(id, rung, decision, event);
  };
  let left = variants.map((_, index) => index);
  for (let rung = 0; left.length > 1; rung++) {
    const step = stepOfRung(request.halving.first_steps, rung);
    const decision = rungs[rung] ?? (await decide(rung, step, left));
    if (decision === null) return;
    const { kept } = decision;
    const next = kept.length > 1 ? stepOfRung(request.halving.first_steps, rung + 1) : null;
    for (const index of left) {
      const { job } = variants[index]!;
      const state = states[index] ?? null;
      if (kept.includes(index)) {
        // One that another process has seen here, and this one not yet, continues at the next call.
        if (state?.pausedAtStep === step) await jobs.sweeps.continueFromRung(id, job, step, next);
      } else if (!hasEnded(state)) {
        await jobs.requestCancel(job, { stoppedAtRung: step }).catch(ignoreIfNothingToDo);
      }
    }
    left = kept;
  }
}

function decided(here: ReadonlyMap<number, AtRung>, step: number, direction: SweepDirection): RecordedRung | null {
  const kept = decideRung(here, direction);
  if (kept === null) return null;
  const metrics = Object.fromEntries([...here].map(([index, one]) => [index, one.metric]));
  return { step, kept, metrics, decided_at: new Date().toISOString() };
}

/** The metric of a job that has succeeded; null for any other. */
function resultOf(job: JobOfSweep | null, metric: SweepMetric): number | null {
  return job?.status === 'succeeded' ? metricValue(job.evaluation, metric) : null;
}

function atRung(job: JobOfSweep | null, step: number, metric: SweepMetric): AtRung {
  if (job === null || hasEnded(job)) {
    return { state: 'ended', metric: resultOf(job, metric) };
  }
  if (job.pausedAtStep !== step) return { state: 'on-the-way', metric: null };
  return { state: 'waiting', metric: metricValue(job.evaluation, metric) };
}

async function conclude(
  { jobs }: AdvanceOptions,
  sweep: SweepRecord,
  states: (JobOfSweep | null)[],
): Promise<SweepOutcome | null> {
  // Since the sweep was read, its jobs may have ended because it was cancelled. That is recorded before the first is asked.
  const now = await jobs.sweeps.get(sweep.id);
  if (now === null) return null;
  const outcome = outcomeOf(now, states);
  return await jobs.sweeps.conclude(sweep.id, outcome, endOf(sweep, outcome, states), now.request.deliver);
}

/** The last event of a sweep. */
function endOf({ variants }: SweepRecord, { status, ranking, metrics }: SweepOutcome, states: (JobOfSweep | null)[]) {
  const [first] = ranking;
  if (status !== 'succeeded' || first === undefined) {
    return { type: status === 'cancelled' ? 'sweep-cancelled' : 'sweep-failed', data: {} } satisfies NewSweepEvent;
  }
  const data = { best: variants[first]!.job, adapter: states[first]?.adapter ?? null, metric: metrics[first]! };
  return { type: 'sweep-succeeded', data } satisfies NewSweepEvent;
}

/** A variant that has failed or was cancelled has no result. */
function outcomeOf({ request, wanted }: SweepRecord, jobs: (JobOfSweep | null)[]): SweepOutcome {
  const { metric, direction } = metricOf(request);
  const metrics = jobs.map((job) => resultOf(job, metric));
  const ranking = rankingOf(metrics, direction);
  const status = wanted === 'cancel' ? 'cancelled' : ranking.length === 0 ? 'failed' : 'succeeded';
  return { status, ranking, metrics, ended_at: new Date().toISOString() };
}

/** One from which a job begins meanwhile stays, and one to which a name points. */
async function deleteLosers(
  { jobs, adapters, aliases, registry }: AdvanceOptions,
  sweep: SweepRecord,
  outcome: SweepOutcome,
  states: (JobOfSweep | null)[],
): Promise<void> {
  for (const [index, state] of states.entries()) {
    const adapter: AdapterId | null = state?.adapter ?? null;
    if (adapter === null || keepsAdapter(sweep, outcome, index, state) || !(await adapters.has(adapter))) continue;
    try {
      await beginAdapterDeletion({ jobs, aliases }, adapter);
    } catch (error) {
      if (error instanceof ProductError && error.code === 'in_use') continue;
      throw error;
    }
    await registry.removeAdapter(adapter);
  }
}

const POLL_MS = 1_000;

/**
 * Advances all sweeps that have not ended, until it is stopped.
 * @returns stops it, once the sweep under way is done
 */
export function startSweeps(
  options: AdvanceOptions & { log: FastifyBaseLogger; pollMs?: number },
): () => Promise<void> {
  const { jobs, log, pollMs = POLL_MS } = options;
  const over = new AbortController();
  const advanceAll = async () => {
    for (const id of await jobs.sweeps.active()) {
      if (over.signal.aborted) return;
      await advanceSweep(options, id).catch((error: unknown) =>
        log.warn({ err: error, sweep: id }, 'the sweep could not be advanced; it will be tried again'),
      );
    }
  };
  const running = (async () => {
    while (!over.signal.aborted) {
      // Redis is unavailable: its connection reports that.
      await advanceAll().catch(() => {});
      await pause(pollMs, over.signal);
    }
  })();
  return async () => {
    over.abort();
    await running;
  };
}
