import type { Sweep } from '@lorasmith/contracts';
import { useRef } from 'preact/hooks';
import { useLast } from '../../components/use-last.js';
import { nullIf } from '../../service/null-if.js';
import { useClient } from '../../service/service.js';
import { usePolled } from '../../service/use-polled.js';

const MOVING_MS = 10_000;
const NONE: ReadonlyMap<string, Sweep | null> = new Map();

/** The sweeps of these ids; null for one that was deleted. One that has ended is read once. */
export function useSweeps(ids: readonly string[]): ReadonlyMap<string, Sweep | null> {
  const client = useClient();
  const ended = useRef(new Map<string, Sweep | null>());
  const { value } = usePolled(
    async (signal) => {
      const read = async (id: string) => {
        const known = ended.current.get(id);
        if (known !== undefined) return known;
        const sweep = await client.getSweep(id, { signal }).catch(nullIf('sweep_not_found'));
        if (sweep === null || sweep.ended_at !== null) ended.current.set(id, sweep);
        return sweep;
      };
      return new Map(await Promise.all(ids.map(async (id) => [id, await read(id)] as const)));
    },
    [client, ids.join()],
    { everyMs: (sweeps) => ([...sweeps.values()].some((sweep) => sweep?.ended_at === null) ? MOVING_MS : null) },
  );
  return useLast(value) ?? NONE;
}
