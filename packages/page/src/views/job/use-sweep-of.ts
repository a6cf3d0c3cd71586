import type { Job, Sweep } from '@lorasmith/contracts';
import { nullIf } from '../../service/null-if.js';
import { useClient } from '../../service/service.js';
import { usePolled } from '../../service/use-polled.js';

const PAUSED_MS = 3_000;

/** The sweep that made a job; null without one, and once its record was deleted; undefined until it is read. It is read again when the state of the job changes. */
export function useSweepOf(job: Job | undefined): Sweep | null | undefined {
  const client = useClient();
  const id = job?.sweep?.id;
  const { value } = usePolled(
    async (signal) => ({
      of: id,
      sweep: id === undefined ? null : await client.getSweep(id, { signal }).catch(nullIf('sweep_not_found')),
    }),
    [client, id, job?.status],
    { everyMs: ({ sweep }) => (sweep !== null && job?.status === 'paused' ? PAUSED_MS : null) },
  );
  // What was read before the job was known stays for one rendering.
  return value?.of === id ? value?.sweep : undefined;
}
