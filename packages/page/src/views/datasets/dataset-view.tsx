import { bytesText, countText } from '@lorasmith/client/core';
import { useState } from 'preact/hooks';
import { Facts } from '../../components/data-table.js';
import { ConfirmDialog } from '../../components/dialog.js';
import { FaultList, Loaded } from '../../components/error-notice.js';
import { Moment } from '../../components/moment.js';
import { notify } from '../../components/notices.js';
import { ViewHead, type ViewProps } from '../../components/view.js';
import { Link, navigate } from '../../location.js';
import { Allowed } from '../../service/role.js';
import { useClient } from '../../service/service.js';
import { useAction } from '../../service/use-action.js';
import { usePolled } from '../../service/use-polled.js';
import { OwnDetails } from '../own-details.js';
import { DatasetRows } from './dataset-rows.js';

/** One dataset, with its rows. */
export function DatasetView({ params, query }: ViewProps) {
  const client = useClient();
  const id = params.id!;
  const dataset = usePolled((signal) => client.getDataset(id, { signal }), [client, id], { everyMs: null });
  const [isDeleting, setDeleting] = useState(false);
  const deletion = useAction(async (signal) => {
    await client.deleteDataset(id, { signal });
    notify(`${dataset.value?.name ?? id} is deleted.`);
    navigate('/datasets', {}, { replace: true });
  });
  return (
    <>
      <ViewHead title={dataset.value?.name ?? id}>
        <Allowed to="change">
          <Link to="/new-job" query={{ dataset: id }} class="button primary">
            New job
          </Link>
          <button type="button" class="danger" onClick={() => setDeleting(true)}>
            Delete
          </button>
        </Allowed>
      </ViewHead>
      {isDeleting && (
        <ConfirmDialog
          title="Delete this dataset?"
          confirm="Delete"
          action={deletion}
          onClose={() => setDeleting(false)}
        >
          <p>Its rows and tokens are removed. Adapters that were trained on it stay. This cannot be undone.</p>
        </ConfirmDialog>
      )}
      <Loaded from={dataset} what="the dataset">
        {({ format, rows, bytes, features, sha256, warnings, ...value }) => (
          <>
            <OwnDetails
              what="dataset"
              list="/datasets"
              details={value}
              change={(details, call) => client.changeDataset(id, details, call)}
              refresh={dataset.refresh}
            />
            <Facts
              entries={[
                ['Id', <code key="id">{id}</code>],
                ['Format', format],
                ['Rows', countText(rows)],
                ['Numbers per row', features],
                ['Size', bytesText(bytes)],
                ['Created', <Moment key="at" at={value.created_at} />],
                ['SHA-256', <code key="sha256">{sha256}</code>],
              ]}
            />
            {warnings.length > 0 && (
              <div class="notice notice-warning">
                <p class="notice-title">Warnings</p>
                <FaultList faults={warnings} />
              </div>
            )}
            <DatasetRows dataset={id} query={query} />
          </>
        )}
      </Loaded>
    </>
  );
}

/** A link to a dataset by its name; by its id while the name is not known, and once the dataset was deleted. */
export function DatasetLink({ id }: { id: string }) {
  const client = useClient();
  const dataset = usePolled((signal) => client.getDataset(id, { signal }).catch(() => null), [client, id], {
    everyMs: null,
  });
  return (
    <Link to="/datasets/:id" params={{ id }}>
      {dataset.value?.name ?? id}
    </Link>
  );
}
