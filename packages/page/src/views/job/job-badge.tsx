import { worseOnHeldOutRows } from '@lorasmith/client/core';
import type { Job, Sweep } from '@lorasmith/contracts';
import { StatusBadge } from '../../components/status-badge.js';
import type { JobHistory } from '../../history/job-history.js';
import { wordOf } from '../sweeps/rungs.js';

export interface JobBadgeProps {
  job: Job;
  history: JobHistory;
  /** Null without one; undefined until it is read. */
  sweep: Sweep | null | undefined;
}

/** The state of a job; beside it, that it made its model worse. */
export function JobBadge({ job: { status, sweep: origin }, history, sweep }: JobBadgeProps) {
  const variant = sweep?.variants.find((one) => one.variant === origin?.variant);
  const word = sweep && variant ? wordOf(sweep, { ...variant, status }) : status;
  const isWorse = status === 'succeeded' && worseOnHeldOutRows(history.evaluations, history.publishedStep) !== null;
  return (
    <>
      <StatusBadge status={status} word={word} />
      {isWorse && <span class="badge badge-warning">worse than its base model</span>}
    </>
  );
}
