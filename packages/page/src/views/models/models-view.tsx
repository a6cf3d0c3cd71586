import type { BaseModel } from '@lorasmith/contracts';
import { type Column, DataTable } from '../../components/data-table.js';
import { Loaded } from '../../components/loaded.js';
import { ViewHead } from '../../components/view-head.js';
import { useClient } from '../../service/service.js';
import { usePolled } from '../../service/use-polled.js';

const COLUMNS: readonly Column<BaseModel>[] = [
  { title: 'Model', cell: ({ name }) => name },
  { title: 'Family', cell: ({ family, problem }) => family ?? problem?.message },
];

export function ModelsView() {
  const client = useClient();
  const models = usePolled((signal) => client.models({ signal }), [client], { everyMs: null });
  return (
    <>
      <ViewHead title="Models" />
      <Loaded from={models} what="the base models">
        {(rows) => <DataTable caption="Base models" columns={COLUMNS} rows={rows} keyOf={({ name }) => name} />}
      </Loaded>
    </>
  );
}
