import { bytesText } from '@lorasmith/client/core';
import { type Adapter, type AdapterQuery, ProductError } from '@lorasmith/contracts';
import { useRef, useState } from 'preact/hooks';
import { type Column, DataTable } from '../../components/data-table.js';
import { ErrorNotice, Loaded } from '../../components/error-notice.js';
import { Field } from '../../components/field.js';
import { ListPages, ListTotal, listOrder, SearchField, TagFilter, TagList, useLast } from '../../components/list.js';
import { listSortOf, searchOf } from '../../components/list-query.js';
import { Moment } from '../../components/moment.js';
import { notify } from '../../components/notices.js';
import { ViewHead, type ViewProps } from '../../components/view.js';
import { Link, navigate } from '../../location.js';
import { pathOf } from '../../route.js';
import { Allowed } from '../../service/role.js';
import { useClient } from '../../service/service.js';
import { useAction } from '../../service/use-action.js';
import { usePolled } from '../../service/use-polled.js';
import { FirstAdapter } from '../first-adapter/first-adapter.js';

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

/** A form that imports a tar of a PEFT folder. */
function ImportAdapter({ onImported }: { onImported: () => void }) {
  const client = useClient();
  const file = useRef<HTMLInputElement>(null);
  const [name, setName] = useState('');
  const [baseModel, setBaseModel] = useState('');
  const models = usePolled((signal) => client.models({ signal }), [client], { everyMs: null });
  const send = useAction(async (signal) => {
    const blob = file.current?.files?.[0];
    if (blob === undefined) throw new ProductError('invalid_request', 'Choose the tar of a PEFT folder first.');
    const adapter = await client.importAdapter(
      { blob },
      {
        signal,
        ...(name.trim() === '' ? {} : { name: name.trim() }),
        ...(baseModel === '' ? {} : { base_model: baseModel }),
      },
    );
    notify('The adapter is imported.');
    onImported();
    navigate(pathOf('/adapters/:id', { id: adapter.id }));
  });
  return (
    <details class="card">
      <summary>Import a PEFT adapter</summary>
      <form
        class="narrow"
        onSubmit={(event) => {
          event.preventDefault();
          send.run();
        }}
      >
        <Field
          label="Tar of a PEFT folder"
          help="Uncompressed, with adapter_config.json and adapter_model.safetensors: tar -cf adapter.tar -C FOLDER ."
        >
          {(input) => <input {...input} ref={file} type="file" accept=".tar,application/x-tar" required />}
        </Field>
        <Field label="Base model" help="Empty: the one that adapter_config.json names.">
          {(input) => (
            <select {...input} value={baseModel} onChange={(event) => setBaseModel(event.currentTarget.value)}>
              <option value="">as in the config</option>
              {(models.value ?? []).map((model) => (
                <option key={model.name} value={model.name}>
                  {model.name}
                </option>
              ))}
            </select>
          )}
        </Field>
        <Field label="Name" help="Optional.">
          {(input) => (
            <input {...input} maxLength={128} value={name} onInput={(event) => setName(event.currentTarget.value)} />
          )}
        </Field>
        <ErrorNotice error={send.error} what="The adapter was not imported" />
        <button type="submit" disabled={send.isBusy}>
          {send.isBusy ? 'Importing …' : 'Import'}
        </button>
      </form>
    </details>
  );
}

/** The origin of an adapter, with a link to its job. */
export function OriginText({ origin }: { origin: Adapter['origin'] }) {
  if (origin.kind === 'imported') return <>imported</>;
  if (origin.kind === 'session') return <>trained by its client, saved as {origin.checkpoint}</>;
  const job = (
    <Link to="/jobs/:id" params={{ id: origin.job }}>
      {origin.job}
    </Link>
  );
  return origin.kind === 'trained' ? (
    <>trained by {job}</>
  ) : (
    <>
      published from step {origin.step} of {job}
    </>
  );
}
