import type { MachineProfile } from '@lorasmith/contracts';
import { type Column, DataTable } from '../../components/data-table.js';
import { Loaded } from '../../components/loaded.js';
import { ViewHead } from '../../components/view-head.js';
import { useClient } from '../../service/service.js';
import { usePolled } from '../../service/use-polled.js';

const COLUMNS: readonly Column<MachineProfile>[] = [
  { title: 'Worker', cell: ({ worker }) => worker },
  { title: 'Engine', cell: ({ engine }) => engine.kind },
];

export function MachinesView() {
  const client = useClient();
  const machines = usePolled((signal) => client.machines({ signal }), [client], { everyMs: 10_000 });
  return (
    <>
      <ViewHead title="Machines" />
      <Loaded from={machines} what="the machines">
        {(rows) => <DataTable caption="Machines" columns={COLUMNS} rows={rows} keyOf={({ worker }) => worker} />}
      </Loaded>
    </>
  );
}
