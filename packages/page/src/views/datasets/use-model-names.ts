import { useClient } from '../../service/service.js';
import { usePolled } from '../../service/use-polled.js';

/** The base models that can be used; none while they are not known. */
export function useModelNames(): string[] {
  const client = useClient();
  const models = usePolled((signal) => client.models({ signal }), [client], { everyMs: null });
  return (models.value ?? []).filter(({ problem }) => problem === null).map(({ name }) => name);
}
