import { bytesText } from '@lorasmith/client/core';
import type { Adapter, AdapterQuery } from '@lorasmith/contracts';
import { type Column, DataTable } from '../../components/data-table.js';
import { Link } from '../../components/link.js';
import { ListPages, listOrder } from '../../components/list-pages.js';
import { ListTotal, TagFilter } from '../../components/list-search.js';
import { Loaded } from '../../components/loaded.js';
import { Moment } from '../../components/moment.js';
import { SearchField } from '../../components/search-field.js';
import { searchOf } from '../../components/search-of.js';
import { listSortOf } from '../../components/table-sort.js';
import { TagList } from '../../components/tag-list.js';
import { useLast } from '../../components/use-last.js';
import { ViewHead } from '../../components/view-head.js';
import { Allowed } from '../../service/role.js';
import { useClient } from '../../service/service.js';
import { usePolled } from '../../service/use-polled.js';
import { FirstAdapter } from '../first-adapter/first-adapter.js';
import type { ViewProps } from '../view.js';
import { ImportAdapter } from './import-adapter.js';
import { OriginText } from './origin-text.js';

const PAGE_ROWS = 50;

/** The `sort` of the API by the title of a column. */
const COLUMN_SORTS: Readonly<Record<string, NonNullable<AdapterQuery['sort']>>> = {
  Adapter: 'name',
  'Base model': 'base_model',
  Size: 'bytes',
  Created: 'created_at',
};
const isSortable = true;
const COLUMNS: readonly Column<Adapter>[] = [
  {
    title: 'Adapter',
    isSortable,
    cell: ({ name, id, tags }) => (
      <>
        <Link to="/adapters/:id" params={{ id }}>
          {name ?? id}
        </Link>
        <TagList tags={tags} to="/adapters" />
      </>
    ),
  },
  { title: 'Base model', isSortable, cell: (adapter) => adapter.base_model },
  { title: 'Made', cell: ({ origin }) => <OriginText origin={origin} /> },
  { title: 'Size', isSortable, isNumber: true, cell: ({ bytes }) => bytesText(bytes) },
  { title: 'Created', isSortable, cell: (adapter) => <Moment at={adapter.created_at} /> },
];

export function AdaptersView({ query }: ViewProps) {
  const client = useClient();
  const { after, filters, isFiltered, isSearched, search } = searchOf(query);
  const { sort, parameters } = listSortOf(query, COLUMN_SORTS);
  const asked = { limit: PAGE_ROWS, ...filters, ...parameters, ...(after === undefined ? {} : { after }) };
  const adapters = usePolled((signal) => client.listAdapters(asked, { signal }), [client, JSON.stringify(asked)], {
    everyMs: 10_000,
  });
  const page = useLast(adapters.value);
  return (
    <>
      <ViewHead title="Adapters" />
      <div class="filters">
        <SearchField search={search} placeholder="name, model, tag or id" />
        <TagFilter tag={filters.tag} />
      </div>
      <Loaded from={{ ...adapters, value: page }} what="the adapters">
        {({ data, next, total }) => (
          <>
            {(data.length > 0 || isFiltered) && <ListTotal total={total} one="adapter" isSearched={isSearched} />}
            {data.length === 0 && !isFiltered && (
              <FirstAdapter text="There are no adapters yet. A job that succeeds publishes one." />
            )}
            {data.length > 0 && (
              <DataTable {...listOrder('Adapters', sort)} columns={COLUMNS} rows={data} keyOf={({ id }) => id} />
            )}
            <ListPages to="/adapters" things="adapters" query={query} sort={sort} next={next} />
          </>
        )}
      </Loaded>
      <Allowed to="change">
        <ImportAdapter onImported={adapters.refresh} />
      </Allowed>
    </>
  );
}
