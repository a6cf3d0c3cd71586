import { countText } from '@lorasmith/client/core';
import type { Sweep, SweepRung } from '@lorasmith/contracts';
import { type Column, DataTable } from '../../components/data-table.js';
import { Moment } from '../../components/moment.js';
import { nextRung, waitsAtStep } from './rungs.js';

const numbersText = (variants: readonly number[]) => variants.map((variant) => `#${variant}`).join(', ');

const COLUMNS: readonly Column<SweepRung>[] = [
  { title: 'Step', cell: ({ step }) => countText(step) },
  { title: 'Went on', cell: ({ kept }) => numbersText(kept) },
  { title: 'Stopped', cell: ({ stopped }) => numbersText(stopped) },
  { title: 'Decided', cell: ({ decided_at: at }) => <Moment at={at} /> },
];

/** The rungs of a sweep by halving: the variants that went on, and what the next rung waits for. */
export function RungsCard({ sweep }: { sweep: Sweep }) {
  if (sweep.request.halving === undefined) return null;
  const next = sweep.ended_at === null ? nextRung(sweep) : null;
  const waiting = sweep.variants.filter((one) => waitsAtStep(sweep, one) !== null).length;
  return (
    <section class="view-section" aria-label="Rungs">
      <h2>Rungs</h2>
      {sweep.rungs.length > 0 && (
        <DataTable caption="Rungs" columns={COLUMNS} rows={sweep.rungs} keyOf={({ step }) => String(step)} />
      )}
      {next !== null && (
        <p class="muted">
          At step {countText(next.step)} the better half of {next.left.length} variants goes on. So far{' '}
          {waiting === 1 ? '1 has come' : `${waiting} have come`} there.
        </p>
      )}
    </section>
  );
}
