import { bytesText } from '@lorasmith/client/core';
import type { Adapter } from '@lorasmith/contracts';
import { type Column, DataTable } from '../../components/data-table.js';
import { Loaded } from '../../components/loaded.js';
import { Moment } from '../../components/moment.js';
import { ViewHead } from '../../components/view-head.js';
import { useClient } from '../../service/service.js';
import { usePolled } from '../../service/use-polled.js';

const COLUMNS: readonly Column<Adapter>[] = [
  { title: 'Adapter', cell: ({ name, id }) => name ?? id },
  { title: 'Base model', cell: (adapter) => adapter.base_model },
  { title: 'Size', isNumber: true, cell: ({ bytes }) => bytesText(bytes) },
  { title: 'Created', cell: (adapter) => <Moment at={adapter.created_at} /> },
];

export function AdaptersView() {
  const client = useClient();
  const adapters = usePolled((signal) => client.listAdapters({ limit: 100 }, { signal }), [client], { everyMs: null });
  return (
    <>
      <ViewHead title="Adapters" />
      <Loaded from={adapters} what="the adapters">
        {({ data }) => (
          <DataTable caption="Adapters, newest first" columns={COLUMNS} rows={data} keyOf={({ id }) => id} />
        )}
      </Loaded>
    </>
  );
}
