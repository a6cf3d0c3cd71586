import {
  type JobEvaluation,
  objectiveContract,
  ProductError,
  type SweepDirection,
  type SweepMetric,
  type SweepRequest,
} from '@lorasmith/contracts';

/**
 * The metric by which the variants of a sweep are compared.
 * @throws ProductError `invalid_sweep` if its jobs do not measure that
 */
export function metricOf({ job, metric = 'loss', direction }: SweepRequest): {
  metric: SweepMetric;
  direction: SweepDirection;
} {
  const { split = 0, dataset = null } = job.validation ?? {};
  if (split === 0 && dataset === null) {
    const message = `The ${metric} is measured on held-out rows, and the job has none. Set job.validation.split, or job.validation.dataset.`;
    throw new ProductError('invalid_sweep', message, { param: 'metric' });
  }
  const hasRewards = job.objective !== undefined && objectiveContract(job.objective.kind).rewards !== undefined;
  if (metric === 'reward' && !hasRewards) {
    const message = 'Only a job with the objective group-relative has rewards. Compare by loss or accuracy.';
    throw new ProductError('invalid_sweep', message, { param: 'metric' });
  }
  return { metric, direction: direction ?? (metric === 'loss' ? 'min' : 'max') };
}

/** The metric of an evaluation; null without one, or if it is not a number. */
export function metricValue(evaluation: JobEvaluation | null, metric: SweepMetric): number | null {
  const value = evaluation?.[metric] ?? null;
  return value !== null && Number.isFinite(value) ? value : null;
}

/**
 * The order of results, the best first. What has no result, or one that is not a number, is left out. Of equal ones the earlier
 * is the better, so that every process comes to the same order.
 *
 * @returns indices of `results`
 */
export function rankingOf(results: readonly (number | null)[], direction: SweepDirection): number[] {
  const sign = direction === 'min' ? 1 : -1;
  return results
    .map((result, index) => ({ result, index }))
    .filter((one): one is { result: number; index: number } => one.result !== null && Number.isFinite(one.result))
    .sort((one, other) => sign * (one.result - other.result) || one.index - other.index)
    .map(({ index }) => index);
}

// Successive halving (Jamieson and Talwalkar 2016, arXiv:1502.07943): all variants train for the same number of steps, the better half goes on for
// as many steps again, and so on, until one is left.

/** The state of a variant at a rung. */
export interface AtRung {
  /** `waiting`: it has come to the rung and goes no further by itself. `ended`: its job has ended, with a result or without. */
  state: 'on-the-way' | 'waiting' | 'ended';
  /** The metric at the rung; of one that has ended, its last. Null: none. */
  metric: number | null;
}

/** The step of a rung, counted from 0: each is at twice as many steps as the one before. */
export function stepOfRung(firstSteps: number, rung: number): number {
  return firstSteps * 2 ** rung;
}

/**
 * The variants that go on from a rung: the better half, rounded up. One without a metric does not.
 *
 * @param variants - Those that the rung before has let through, by their index
 * @returns indices in ascending order; null while one of them has not come to the rung, or once none goes further by itself
 */
export function decideRung(variants: ReadonlyMap<number, AtRung>, direction: SweepDirection): number[] | null {
  const entries = [...variants];
  const is = (wanted: AtRung['state']) => entries.some(([, { state }]) => state === wanted);
  if (is('on-the-way') || !is('waiting')) return null;
  const ranking = rankingOf(
    entries.map(([, { metric }]) => metric),
    direction,
  );
  const kept = ranking.slice(0, Math.ceil(entries.length / 2));
  return kept.map((index) => entries[index]![0]).sort((one, other) => one - other);
}

/**
 * The steps that all variants do together by halving, as a share of what they would do to their ends.
 * @param steps - Of each of them, to its end
 */
export function shareOfHalving(variants: number, steps: number, firstSteps: number): number {
  let [left, done, sum] = [variants, 0, 0];
  for (let rung = 0; left > 1 && stepOfRung(firstSteps, rung) < steps; rung++) {
    const step = stepOfRung(firstSteps, rung);
    sum += left * (step - done);
    [left, done] = [Math.ceil(left / 2), step];
  }
  return (sum + left * (steps - done)) / (variants * steps);
}
