import { bytesText, type Client, countText, durationText, sweepValueText } from '@lorasmith/client/core';
import type { PlannedVariant, SweepPlan } from '@lorasmith/contracts';
import { useEffect, useState } from 'preact/hooks';
import { type Column, DataTable, Facts, ScrollRegion } from '../../components/data-table.js';
import { useService } from '../../service/service.js';
import { useStore } from '../../store.js';
import { fieldLabel } from '../sweeps/sweep-variants.js';

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

export interface DryRun<Report> {
  /** The answer for the current request, or of an earlier one while `isRunning`. */
  report: Report | null;
  error: unknown;
  isRunning: boolean;
}

/** Time without a change after which a request is tried. */
const PAUSE_MS = 400;

/**
 * Asks what the request would do, each time it has changed and typing pauses. An outdated question is aborted.
 * @param request - Null: asks nothing
 */
export function useDryRun<Request extends object, Report>(
  request: Request | null,
  ask: (client: Client, request: Request, signal: AbortSignal) => Promise<Report>,
): DryRun<Report> {
  const { client, connection } = useService();
  const { recoveries } = useStore(connection.state);
  const [state, setState] = useState<DryRun<Report>>({ report: null, error: undefined, isRunning: false });
  const text = request === null ? null : JSON.stringify(request);
  useEffect(() => {
    if (request === null) {
      setState({ report: null, error: undefined, isRunning: false });
      return;
    }
    const outdated = new AbortController();
    const { signal } = outdated;
    setState((last) => ({ ...last, isRunning: true }));
    const timer = setTimeout(() => {
      ask(client, request, signal).then(
        (report) => !signal.aborted && setState({ report, error: undefined, isRunning: false }),
        (error: unknown) => !signal.aborted && setState({ report: null, error, isRunning: false }),
      );
    }, PAUSE_MS);
    return () => {
      clearTimeout(timer);
      outdated.abort();
    };
  }, [client, text, recoveries]);
  return state;
}
