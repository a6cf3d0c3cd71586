import { stateText, worseOnHeldOutRows } from '@lorasmith/client/core';
import type { Job } from '@lorasmith/contracts';
import { StatusBadge } from '../../components/status-badge.js';
import type { JobHistory } from '../../history/job-history.js';

export interface JobBadgeProps {
  job: Job;
  history: JobHistory;
}

/** The state of a job; beside it, that it made its model worse. */
export function JobBadge({ job, history }: JobBadgeProps) {
  const { status } = job;
  const isWorse = status === 'succeeded' && worseOnHeldOutRows(history.evaluations, history.publishedStep) !== null;
  return (
    <>
      <StatusBadge status={status} word={stateText(job)} />
      {isWorse && <span class="badge badge-warning">worse than its base model</span>}
    </>
  );
}
