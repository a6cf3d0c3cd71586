import { pause } from '@lorasmith/concurrency';
import type { Stores } from '@lorasmith/storage';
import type { FastifyBaseLogger } from 'fastify';

const DAY_MS = 24 * 3_600_000;
/** Random, so that several apis do not sweep at once. Long, so that an api that restarts often does not sweep each time. */
const FIRST_AFTER_MS = 3_600_000;
const KINDS = ['datasets', 'adapters', 'checkpoints', 'models'];

/**
 * Once a day, removes the leftovers of publishers that died from a store that several hosts share.
 * @returns a function that stops it and waits for the current removal
 */
export function startOrphanSweep({ stores, log }: { stores: Stores; log: FastifyBaseLogger }): () => Promise<void> {
  if (!stores.shared) return async () => {};
  const over = new AbortController();

  const sweep = async () => {
    await pause(FIRST_AFTER_MS * (1 + Math.random()), over.signal);
    while (!over.signal.aborted) {
      for (const kind of KINDS) {
        try {
          const removed = await (await stores.open(kind)).sweepOrphans(DAY_MS);
          if (removed > 0) log.info({ kind, removed }, 'removed incomplete uploads from the store');
        } catch (error) {
          log.warn(
            { kind, err: error },
            'incomplete uploads could not be removed from the store; trying again tomorrow',
          );
        }
        if (over.signal.aborted) return;
      }
      await stores.sweepStagings(DAY_MS).catch((error: unknown) => {
        log.warn({ err: error }, 'incomplete folders could not be removed; trying again tomorrow');
      });
      await pause(DAY_MS, over.signal);
    }
  };
  const running = sweep();
  return async () => {
    over.abort();
    await running;
  };
}
