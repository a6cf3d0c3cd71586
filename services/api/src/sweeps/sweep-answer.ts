import { ENDED_STATUSES, type Sweep, type SweepRung, type SweepStatus, type SweepVariant } from '@lorasmith/contracts';
import type { JobOfSweep, JobStore, RecordedRung, SweepOutcome, SweepRecord } from '@lorasmith/queue';
import { metricOf, metricValue } from '@lorasmith/sweeps';

type Sweeps = Pick<JobStore['sweeps'], 'jobs'>;

/** Sweeps as the API shows them. */
export async function sweepAnswers(sweeps: Sweeps, records: readonly SweepRecord[]): Promise<Sweep[]> {
  const jobs = await sweeps.jobs(records.flatMap(({ variants }) => variants.map(({ job }) => job)));
  let read = 0;
  return records.map((record) => {
    const own = jobs.slice(read, read + record.variants.length);
    read += own.length;
    return sweepAnswer(record, own);
  });
}

function sweepAnswer(record: SweepRecord, jobs: (JobOfSweep | null)[]): Sweep {
  const { id, owner, request, variants, outcome, created_at } = record;
  const { metric, direction } = metricOf(request);
  const best = outcome?.ranking[0];
  return {
    id,
    object: 'sweep',
    owner,
    name: request.name ?? null,
    status: statusOf(record),
    base_model: request.job.base_model,
    dataset: request.job.dataset,
    metric,
    direction,
    request,
    variants: variants.map(({ job: jobId, values }, index): SweepVariant => {
      const job = jobs[index] ?? null;
      const rank = outcome?.ranking.indexOf(index) ?? -1;
      return {
        variant: index + 1,
        values,
        job: jobId,
        status: job?.status ?? null,
        ...(job?.stopped_at_rung === undefined ? {} : { stopped_at_rung: job.stopped_at_rung }),
        progress: job?.progress ?? null,
        metric: job === null ? (outcome?.metrics[index] ?? null) : metricValue(job.evaluation, metric),
        step: job?.evaluation?.step ?? null,
        rank: rank < 0 ? null : rank + 1,
        adapter: keepsAdapter(record, outcome, index, job) ? (job?.adapter ?? null) : null,
        error: job?.error ?? null,
      };
    }),
    rungs: rungsOf(record),
    best: best === undefined ? null : variants[best]!.job,
    created_at,
    ended_at: outcome?.ended_at ?? null,
  };
}

function rungsOf({ variants, rungs }: SweepRecord): SweepRung[] {
  let left = variants.map((_, index) => index);
  return rungs.map((rung) => {
    const answer = rungAnswer(left, rung);
    left = rung.kept;
    return answer;
  });
}

/**
 * A decision with the numbers of the variants.
 * @param left - Indices of those that came to the rung
 */
export function rungAnswer(left: readonly number[], { step, kept, decided_at }: RecordedRung): SweepRung {
  const stopped = left.filter((index) => !kept.includes(index));
  return { step, kept: kept.map((index) => index + 1), stopped: stopped.map((index) => index + 1), decided_at };
}

function statusOf({ outcome, wanted }: SweepRecord): SweepStatus {
  if (outcome !== null) return outcome.status;
  return wanted === 'pause' ? 'paused' : 'running';
}

/** True if the job does nothing more by itself. */
export function hasEnded(job: JobOfSweep | null): boolean {
  return job === null || ENDED_STATUSES.includes(job.status);
}

/** True if the adapter of a variant stays. One without a rank whose job has a result was resumed after the sweep had ended. */
export function keepsAdapter(
  { request }: Pick<SweepRecord, 'request'>,
  outcome: SweepOutcome | null,
  index: number,
  job: JobOfSweep | null,
): boolean {
  if (outcome?.status !== 'succeeded') return true;
  const rank = outcome.ranking.indexOf(index);
  if (rank >= 0) return rank < (request.publish_best ?? 1);
  return metricValue(job?.evaluation ?? null, metricOf(request).metric) !== null;
}
