import type { JobStatus } from '@lorasmith/contracts';

/** The state of a job, as a word in a colour. */
export function StatusBadge({ status }: { status: JobStatus }) {
  return <span class={`badge badge-${status}`}>{status}</span>;
}
