import { bytesText, countText } from '@lorasmith/client/core';
import type { Dataset } from '@lorasmith/contracts';
import { type Column, DataTable } from '../../components/data-table.js';
import { Link } from '../../components/link.js';
import { Loaded } from '../../components/loaded.js';
import { Moment } from '../../components/moment.js';
import { ViewHead } from '../../components/view-head.js';
import { Allowed } from '../../service/role.js';
import { useClient } from '../../service/service.js';
import { usePolled } from '../../service/use-polled.js';
import type { ViewProps } from '../view.js';
import { UploadCard } from './upload-card.js';

const COLUMNS: readonly Column<Dataset>[] = [
  {
    title: 'Dataset',
    cell: ({ name, id }) => (
      <Link to="/datasets/:id" params={{ id }}>
        {name ?? id}
      </Link>
    ),
  },
  { title: 'Format', cell: ({ format }) => format },
  { title: 'Rows', isNumber: true, cell: ({ rows }) => countText(rows) },
  { title: 'Size', isNumber: true, cell: ({ bytes }) => bytesText(bytes) },
  { title: 'Created', cell: (dataset) => <Moment at={dataset.created_at} /> },
];
const PAGE = 50;

/** All datasets, and the upload of another one. */
export function DatasetsView({ query }: ViewProps) {
  const client = useClient();
  const after = query.get('after') ?? undefined;
  const datasets = usePolled(
    (signal) => client.listDatasets({ limit: PAGE, ...(after === undefined ? {} : { after }) }, { signal }),
    [client, after],
    { everyMs: null },
  );
  return (
    <>
      <ViewHead title="Datasets" />
      <Allowed to="change">
        <UploadCard onStored={datasets.refresh} />
      </Allowed>
      <Loaded from={datasets} what="the datasets">
        {({ data, next }) => (
          <>
            {data.length === 0 ? (
              <p class="muted">There are no datasets yet. A job trains on one.</p>
            ) : (
              <DataTable caption="Datasets, newest first" columns={COLUMNS} rows={data} keyOf={({ id }) => id} />
            )}
            <div class="buttons">
              {after !== undefined && <Link to="/datasets">Newest</Link>}
              {next !== null && (
                <Link to="/datasets" query={{ after: next }}>
                  Older
                </Link>
              )}
            </div>
          </>
        )}
      </Loaded>
    </>
  );
}
