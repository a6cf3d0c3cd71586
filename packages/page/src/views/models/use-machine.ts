import type { Machine } from '@lorasmith/contracts';
import { useClient } from '../../service/service.js';
import { usePolled } from '../../service/use-polled.js';
import { largestMachine } from './model-fit.js';

/** The machine that base models are compared with; undefined while none is known. */
export function useMachine(): Machine | undefined {
  const client = useClient();
  const machines = usePolled((signal) => client.machines({ signal }), [client], { everyMs: null });
  return largestMachine(machines.value ?? []);
}
