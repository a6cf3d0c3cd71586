import type { Dataset } from '@lorasmith/contracts';
import { type Column, DataTable } from '../../components/data-table.js';
import { Loaded } from '../../components/loaded.js';
import { Moment } from '../../components/moment.js';
import { ViewHead } from '../../components/view-head.js';
import { useClient } from '../../service/service.js';
import { usePolled } from '../../service/use-polled.js';

const COLUMNS: readonly Column<Dataset>[] = [
  { title: 'Dataset', cell: ({ name, id }) => name ?? id },
  { title: 'Created', cell: (dataset) => <Moment at={dataset.created_at} /> },
];

export function DatasetsView() {
  const client = useClient();
  const datasets = usePolled((signal) => client.listDatasets({ limit: 100 }, { signal }), [client], { everyMs: null });
  return (
    <>
      <ViewHead title="Datasets" />
      <Loaded from={datasets} what="the datasets">
        {({ data }) => (
          <DataTable caption="Datasets, newest first" columns={COLUMNS} rows={data} keyOf={({ id }) => id} />
        )}
      </Loaded>
    </>
  );
}
