import { shareText } from '@lorasmith/client/core';
import type { Comparison } from '@lorasmith/contracts';
import { type Column, DataTable } from '../../components/data-table.js';
import { Loaded } from '../../components/error-notice.js';
import { Moment } from '../../components/moment.js';
import { StatusBadge } from '../../components/status.js';
import { ViewHead, type ViewProps } from '../../components/view.js';
import { Link, navigate } from '../../location.js';
import { Allowed } from '../../service/role.js';
import { useClient } from '../../service/service.js';
import { usePolled } from '../../service/use-polled.js';
import { isOpen, ModelNames } from './comparison-facts.js';
import { ComparisonForm } from './comparison-form.js';

const PAGE_ROWS = 25;
const MOVING_MS = 2_000;
const STILL_MS = 15_000;

const COLUMNS: readonly Column<Comparison>[] = [
  {
    title: 'Comparison',
    cell: ({ id, name }) => (
      <Link to="/comparisons/:id" params={{ id }}>
        {name ?? id}
      </Link>
    ),
  },
  { title: 'Models', cell: ({ models }) => <ModelNames models={models} /> },
  { title: 'State', cell: ({ status }) => <StatusBadge status={status} /> },
  { title: 'a wins', isNumber: true, cell: ({ result }) => result?.win_rate != null && shareText(result.win_rate) },
  { title: 'Better', cell: ({ result }) => result?.verdict },
  { title: 'When', cell: (one) => <Moment at={one.ended_at ?? one.created_at} /> },
];

/** A form that compares two models, and the comparisons, newest first. */
export function ComparisonsView({ query }: ViewProps) {
  const client = useClient();
  const after = query.get('after') ?? undefined;
  const comparisons = usePolled(
    (signal) => client.listComparisons({ limit: PAGE_ROWS, ...(after === undefined ? {} : { after }) }, { signal }),
    [client, after],
    { everyMs: ({ data }) => (data.some(isOpen) ? MOVING_MS : STILL_MS) },
  );
  return (
    <>
      <ViewHead title="Comparisons" />
      <Allowed to="change">
        <ComparisonForm model={query.get('model') ?? ''} onCreated={({ id }) => navigate(`/comparisons/${id}`)} />
      </Allowed>
      <Loaded from={comparisons} what="the comparisons">
        {({ data, next }) => (
          <>
            {data.length === 0 ? (
              <p>There are no comparisons yet.</p>
            ) : (
              <DataTable caption="Comparisons, newest first" columns={COLUMNS} rows={data} keyOf={({ id }) => id} />
            )}
            <div class="buttons">
              {after !== undefined && <Link to="/comparisons">Newest comparisons</Link>}
              {next !== null && (
                <Link to="/comparisons" query={{ after: next }}>
                  Older comparisons
                </Link>
              )}
            </div>
          </>
        )}
      </Loaded>
    </>
  );
}
