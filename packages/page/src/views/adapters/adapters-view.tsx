import { bytesText } from '@lorasmith/client/core';
import type { Adapter } from '@lorasmith/contracts';
import { type Column, DataTable } from '../../components/data-table.js';
import { Link } from '../../components/link.js';
import { Loaded } from '../../components/loaded.js';
import { Moment } from '../../components/moment.js';
import { ViewHead } from '../../components/view-head.js';
import { Allowed } from '../../service/role.js';
import { useClient } from '../../service/service.js';
import { usePolled } from '../../service/use-polled.js';
import { FirstAdapter } from '../first-adapter/first-adapter.js';
import type { ViewProps } from '../view.js';
import { ImportAdapter } from './import-adapter.js';
import { OriginText } from './origin-text.js';

const PAGE_ROWS = 50;

const COLUMNS: readonly Column<Adapter>[] = [
  {
    title: 'Adapter',
    cell: ({ name, id }) => (
      <Link to="/adapters/:id" params={{ id }}>
        {name ?? id}
      </Link>
    ),
  },
  { title: 'Base model', cell: (adapter) => adapter.base_model },
  { title: 'Made', cell: ({ origin }) => <OriginText origin={origin} /> },
  { title: 'Size', isNumber: true, cell: ({ bytes }) => bytesText(bytes) },
  { title: 'Created', cell: (adapter) => <Moment at={adapter.created_at} /> },
];

export function AdaptersView({ query }: ViewProps) {
  const client = useClient();
  const after = query.get('after') ?? undefined;
  const adapters = usePolled(
    (signal) => client.listAdapters({ limit: PAGE_ROWS, ...(after === undefined ? {} : { after }) }, { signal }),
    [client, after],
    { everyMs: 10_000 },
  );
  return (
    <>
      <ViewHead title="Adapters" />
      <Loaded from={adapters} what="the adapters">
        {({ data, next }) => (
          <>
            {data.length === 0 ? (
              <FirstAdapter text="There are no adapters yet. A job that succeeds publishes one." />
            ) : (
              <DataTable caption="Adapters, newest first" columns={COLUMNS} rows={data} keyOf={({ id }) => id} />
            )}
            <div class="buttons">
              {after !== undefined && <Link to="/adapters">Newest adapters</Link>}
              {next !== null && (
                <Link to="/adapters" query={{ after: next }}>
                  Older adapters
                </Link>
              )}
            </div>
          </>
        )}
      </Loaded>
      <Allowed to="change">
        <ImportAdapter onImported={adapters.refresh} />
      </Allowed>
    </>
  );
}
