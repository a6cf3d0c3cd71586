import { useClient } from '../service/service.js';
import { usePolled } from '../service/use-polled.js';
import { Link } from './link.js';

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
