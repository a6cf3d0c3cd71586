import { setTimeout as sleep } from 'node:timers/promises';
import type { Stores } from '@lorasmith/storage';
import type { FastifyBaseLogger } from 'fastify';

const DAY_MS = 24 * 3_600_000;
/** Several apis do not begin at once, and one that starts often does not sweep each time. */
const FIRST_AFTER_MS = 3_600_000;
const KINDS = ['datasets', 'adapters', 'checkpoints', 'models'];

/**
 * Removes once a day, from a store that several hosts share, what publishers that died left there.
 * @returns ends it, after what is being done
 */
export function startOrphanSweep({ stores, log }: { stores: Stores; log: FastifyBaseLogger }): () => Promise<void> {
  if (!stores.shared) return async () => {};
  const over = new AbortController();
  const pause = (ms: number) => sleep(ms, undefined, { signal: over.signal, ref: false }).catch(() => {});

  const sweep = async () => {
    await pause(FIRST_AFTER_MS * (1 + Math.random()));
    while (!over.signal.aborted) {
      for (const kind of KINDS) {
        try {
          const removed = await (await stores.open(kind)).sweepOrphans(DAY_MS);
          if (removed > 0) log.info({ kind, removed }, 'removed what was left half-stored');
        } catch (error) {
          log.warn({ kind, err: error }, 'what was left half-stored could not be removed; it is tried again tomorrow');
        }
        if (over.signal.aborted) return;
      }
      await stores.sweepStagings(DAY_MS).catch((error: unknown) => {
        log.warn({ err: error }, 'what was left half-made could not be removed; it is tried again tomorrow');
      });
      await pause(DAY_MS);
    }
  };
  const running = sweep();
  return async () => {
    over.abort();
    await running;
  };
}
