import type { Job } from '@lorasmith/contracts';

/** A row of the list: a job, one of the variants under its sweep, or a sweep, with the first of its jobs. */
export type JobRow =
  | { kind: 'job' | 'variant'; job: Job }
  | { kind: 'sweep'; job: Job; sweep: string; isOpen: boolean };

/**
 * The rows of a page, on which a job of a sweep stands for its sweep.
 * @param variants - The jobs of the sweeps that are open.
 */
export function rowsOf(
  jobs: readonly Job[],
  open: readonly string[],
  variants: ReadonlyMap<string, readonly Job[]>,
): JobRow[] {
  return jobs.flatMap((job): JobRow[] => {
    const sweep = job.sweep?.id;
    if (sweep === undefined) return [{ kind: 'job', job }];
    const isOpen = open.includes(sweep);
    const shown = isOpen ? (variants.get(sweep) ?? []) : [];
    return [{ kind: 'sweep', job, sweep, isOpen }, ...shown.map((one) => ({ kind: 'variant' as const, job: one }))];
  });
}

export function keyOfRow(row: JobRow): string {
  return row.kind === 'sweep' ? row.sweep : row.job.id;
}
