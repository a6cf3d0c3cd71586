import { countText } from '@lorasmith/client/core';
import type { Job, Sweep } from '@lorasmith/contracts';
import { Link } from '../../components/link.js';
import { rungText, waitsAtStep } from '../sweeps/rungs.js';
import { variantText, variedFields } from '../sweeps/sweep-fields.js';

/** The sweep that a job belongs to, and whether the job waits for the other variants. Nothing for other jobs. */
export function SweepNote({ job, sweep }: { job: Job; sweep: Sweep | null | undefined }) {
  if (job.sweep === undefined) return null;
  const { id, variant: number } = job.sweep;
  if (sweep === null) return <p>It is variant {number} of a sweep that was deleted.</p>;
  const variant = sweep?.variants.find((one) => one.variant === number);
  const step = sweep && variant ? waitsAtStep(sweep, variant) : null;
  const decided = sweep && variant && step === null ? rungText(sweep, variant) : '';
  return (
    <>
      <p>
        It is variant {number} of the sweep{' '}
        <Link to="/sweeps/:id" params={{ id }}>
          {sweep?.name ?? id}
        </Link>
        {sweep && variant && ` (${variantText(variedFields(sweep), variant)})`}
        {decided !== '' && `: ${decided}`}.
      </p>
      {step !== null && (
        <p class="notice" role="status">
          It waits at step {countText(step)} for the other variants of its sweep. Then the better half goes on by
          itself.
        </p>
      )}
    </>
  );
}
