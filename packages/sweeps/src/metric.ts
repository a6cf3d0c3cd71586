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
