import { bytesText, countText, durationText, sweepValueText } from '@lorasmith/client/core';
import type { PlannedVariant, SweepPlan } from '@lorasmith/contracts';
import { type Column, DataTable } from '../../components/data-table.js';
import { Facts } from '../../components/facts.js';
import { ScrollRegion } from '../../components/scroll-region.js';
import { fieldLabel } from '../sweeps/sweep-fields.js';

/** The work of a sweep, as the service planned it. */
export function PlanCard({ plan }: { plan: SweepPlan }) {
  const { jobs, variants, tokens, seconds, at_once: atOnce, peak_memory_bytes: memory } = plan;
  const paths = Object.keys(variants[0]?.values ?? {});
  const columns: Column<PlannedVariant>[] = [
    { title: 'Variant', cell: ({ variant }) => `#${variant}` },
    ...paths.map((path) => ({
      title: fieldLabel(path),
      cell: ({ values }: PlannedVariant) => sweepValueText(values[path]),
    })),
    { title: 'Steps', isNumber: true, cell: ({ steps }) => (steps === null ? '–' : countText(steps)) },
    { title: 'Cannot run', cell: ({ error }) => error?.message ?? '' },
  ];
  return (
    <section class="card">
      <h2>Plan of the sweep</h2>
      <Facts
        entries={[
          ['Jobs', jobs === variants.length ? countText(jobs) : `${countText(jobs)} of ${variants.length} can run`],
          ['Tokens', countText(tokens)],
          ['One after the other', seconds === null ? null : durationText(seconds)],
          ['At once', atOnce === null ? null : `${countText(atOnce)} fit into the memory`],
          ['Estimated memory', memory === null ? null : bytesText(memory)],
        ]}
      />
      <ScrollRegion label="Planned variants">
        <DataTable
          caption="Planned variants"
          columns={columns}
          rows={variants}
          keyOf={({ variant }) => String(variant)}
        />
      </ScrollRegion>
    </section>
  );
}
