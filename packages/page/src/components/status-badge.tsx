import type { JobStatus, SweepStatus } from '@lorasmith/contracts';

/** The state of a job or a sweep, as a word in a colour. */
export function StatusBadge({ status }: { status: JobStatus | SweepStatus }) {
  return <span class={`badge badge-${status}`}>{status}</span>;
}
