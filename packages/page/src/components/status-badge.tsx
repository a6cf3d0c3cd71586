import type { JobStatus, SweepStatus } from '@lorasmith/contracts';

export interface StatusBadgeProps {
  status: JobStatus | SweepStatus;
  /** A word that says more than the state. @defaultValue the state */
  word?: string | undefined;
}

/** The state of a job or a sweep, as a word in a colour. */
export function StatusBadge({ status, word = status }: StatusBadgeProps) {
  return <span class={`badge badge-${status}`}>{word}</span>;
}
