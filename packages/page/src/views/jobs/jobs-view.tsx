import type { Job } from '@lorasmith/contracts';
import { type Column, DataTable } from '../../components/data-table.js';
import { Link } from '../../components/link.js';
import { Loaded } from '../../components/loaded.js';
import { Moment } from '../../components/moment.js';
import { StatusBadge } from '../../components/status-badge.js';
import { ViewHead } from '../../components/view-head.js';
import { useClient } from '../../service/service.js';
import { usePolled } from '../../service/use-polled.js';

const COLUMNS: readonly Column<Job>[] = [
  { title: 'Job', cell: ({ name, id }) => name ?? id },
  { title: 'State', cell: ({ status }) => <StatusBadge status={status} /> },
  { title: 'Base model', cell: (job) => job.base_model },
  { title: 'Created', cell: (job) => <Moment at={job.created_at} /> },
];

export function JobsView() {
  const client = useClient();
  const jobs = usePolled((signal) => client.listJobs({ limit: 50 }, { signal }), [client], { everyMs: 2_000 });
  return (
    <>
      <ViewHead title="Jobs">
        <Link to="/new-job" class="button primary">
          New job
        </Link>
      </ViewHead>
      <Loaded from={jobs} what="the jobs">
        {({ data }) => <DataTable caption="Jobs, newest first" columns={COLUMNS} rows={data} keyOf={({ id }) => id} />}
      </Loaded>
    </>
  );
}
