import { bytesText, countText } from '@lorasmith/client/core';
import type { Dataset, DatasetQuery } from '@lorasmith/contracts';
import { type Column, DataTable } from '../../components/data-table.js';
import { Loaded } from '../../components/error-notice.js';
import { ListPages, ListTotal, listOrder, SearchField, TagFilter, TagList, useLast } from '../../components/list.js';
import { listSortOf, searchOf } from '../../components/list-query.js';
import { Moment } from '../../components/moment.js';
import { ViewHead, type ViewProps } from '../../components/view.js';
import { Link } from '../../location.js';
import { Allowed } from '../../service/role.js';
import { useClient } from '../../service/service.js';
import { usePolled } from '../../service/use-polled.js';
import { UploadCard } from './upload-card.js';

/** The `sort` of the API by the title of a column. */
const COLUMN_SORTS: Readonly<Record<string, NonNullable<DatasetQuery['sort']>>> = {
  Dataset: 'name',
  Format: 'format',
  Rows: 'rows',
  Size: 'bytes',
  Created: 'created_at',
};
const isSortable = true;
const COLUMNS: readonly Column<Dataset>[] = [
  {
    title: 'Dataset',
    isSortable,
    cell: ({ name, id, tags }) => (
      <>
        <Link to="/datasets/:id" params={{ id }}>
          {name ?? id}
        </Link>
        <TagList tags={tags} to="/datasets" />
      </>
    ),
  },
  { title: 'Format', isSortable, cell: ({ format }) => format },
  { title: 'Rows', isSortable, isNumber: true, cell: ({ rows }) => countText(rows) },
  { title: 'Size', isSortable, isNumber: true, cell: ({ bytes }) => bytesText(bytes) },
  { title: 'Created', isSortable, cell: (dataset) => <Moment at={dataset.created_at} /> },
];
const PAGE = 50;

/** All datasets, and the upload of another one. */
export function DatasetsView({ query }: ViewProps) {
  const client = useClient();
  const { after, filters, isFiltered, isSearched, search } = searchOf(query);
  const { sort, parameters } = listSortOf(query, COLUMN_SORTS);
  const asked = { limit: PAGE, ...filters, ...parameters, ...(after === undefined ? {} : { after }) };
  const datasets = usePolled((signal) => client.listDatasets(asked, { signal }), [client, JSON.stringify(asked)], {
    everyMs: null,
  });
  const page = useLast(datasets.value);
  return (
    <>
      <ViewHead title="Datasets" />
      <Allowed to="change">
        <UploadCard onStored={datasets.refresh} />
      </Allowed>
      <div class="filters">
        <SearchField search={search} placeholder="name, tag or id" />
        <TagFilter tag={filters.tag} />
      </div>
      <Loaded from={{ ...datasets, value: page }} what="the datasets">
        {({ data, next, total }) => (
          <>
            {(data.length > 0 || isFiltered) && <ListTotal total={total} one="dataset" isSearched={isSearched} />}
            {data.length === 0 && !isFiltered && <p class="muted">There are no datasets yet. A job trains on one.</p>}
            {data.length > 0 && (
              <DataTable {...listOrder('Datasets', sort)} columns={COLUMNS} rows={data} keyOf={({ id }) => id} />
            )}
            <ListPages to="/datasets" things="datasets" query={query} sort={sort} next={next} />
          </>
        )}
      </Loaded>
    </>
  );
}
