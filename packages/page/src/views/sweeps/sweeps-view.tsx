import { sweepProgressText } from '@lorasmith/client/core';
import type { Sweep } from '@lorasmith/contracts';
import { type Column, DataTable } from '../../components/data-table.js';
import { Loaded } from '../../components/error-notice.js';
import { Moment } from '../../components/moment.js';
import { StatusBadge } from '../../components/status.js';
import { ViewHead, type ViewProps } from '../../components/view.js';
import { Link } from '../../location.js';
import { Allowed } from '../../service/role.js';
import { useClient } from '../../service/service.js';
import { usePolled } from '../../service/use-polled.js';
import { bestOf, variantText, variedFields } from './sweep-variants.js';
import { VariantLink } from './variants-table.js';

const PAGE_ROWS = 25;
const MOVING_MS = 3_000;
const STILL_MS = 10_000;

const COLUMNS: readonly Column<Sweep>[] = [
  {
    title: 'Sweep',
    cell: ({ id, name }) => (
      <Link to="/sweeps/:id" params={{ id }}>
        {name ?? id}
      </Link>
    ),
  },
  { title: 'State', cell: ({ status }) => <StatusBadge status={status} /> },
  { title: 'Jobs', cell: sweepProgressText },
  {
    title: 'Differ in',
    cell: (sweep) =>
      variedFields(sweep)
        .map(({ label }) => label)
        .join(', '),
  },
  { title: 'Best', cell: (sweep) => <Best sweep={sweep} /> },
  { title: 'Base model', cell: (sweep) => sweep.base_model },
  { title: 'When', cell: (sweep) => <Moment at={sweep.ended_at ?? sweep.created_at} /> },
];

/** The sweeps, newest first, with their state. */
export function SweepsView({ query }: ViewProps) {
  const client = useClient();
  const after = query.get('after') ?? undefined;
  const sweeps = usePolled(
    (signal) => client.listSweeps({ limit: PAGE_ROWS, ...(after === undefined ? {} : { after }) }, { signal }),
    [client, after],
    { everyMs: ({ data }) => (data.some(({ ended_at: ended }) => ended === null) ? MOVING_MS : STILL_MS) },
  );
  return (
    <>
      <ViewHead title="Sweeps" />
      <Loaded from={sweeps} what="the sweeps">
        {({ data, next }) => (
          <>
            {data.length === 0 ? (
              <NoSweeps />
            ) : (
              <DataTable caption="Sweeps, newest first" columns={COLUMNS} rows={data} keyOf={({ id }) => id} />
            )}
            <div class="buttons">
              {after !== undefined && <Link to="/sweeps">Newest sweeps</Link>}
              {next !== null && (
                <Link to="/sweeps" query={{ after: next }}>
                  Older sweeps
                </Link>
              )}
            </div>
          </>
        )}
      </Loaded>
    </>
  );
}

function NoSweeps() {
  return (
    <section class="card empty" aria-label="No sweeps">
      <p>
        There are no sweeps yet. A sweep trains variants of one job, such as with several learning rates, and says which
        is the best.
      </p>
      <Allowed to="change">
        <Link to="/new-job" class="button">
          Try several values
        </Link>
      </Allowed>
    </section>
  );
}

function Best({ sweep }: { sweep: Sweep }) {
  const best = bestOf(sweep);
  return best === undefined ? null : <VariantLink one={best} text={variantText(variedFields(sweep), best)} />;
}
