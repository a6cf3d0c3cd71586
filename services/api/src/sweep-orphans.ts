import { type AliasStore, listingOf, readDataset, readManifest } from '@lorasmith/artifacts';
import { pause } from '@lorasmith/concurrency';
import { ProductError } from '@lorasmith/contracts';
import type { BundleStore, Listing, Stores } from '@lorasmith/storage';
import type { FastifyBaseLogger } from 'fastify';

const DAY_MS = 24 * 3_600_000;
/** Random, so that several apis do not sweep at once. Long, so that an api that restarts often does not sweep each time. */
const FIRST_AFTER_MS = 3_600_000;
const KINDS = ['datasets', 'adapters', 'checkpoints', 'models', 'snapshots'];

export interface SweepOptions {
  stores: Stores;
  log: Pick<FastifyBaseLogger, 'info' | 'warn'>;
}

/** The kinds whose bundles are in an index, and how one is read. */
const LISTED: Record<string, (store: BundleStore, id: string) => Promise<Listing>> = {
  datasets: readDataset,
  adapters: async (store, id) => listingOf(await readManifest(store, id)),
};

/**
 * Once a day, repairs the index of the store, forgets the names of adapters that were removed, and removes the leftovers of publishers that died from a
 * store that several hosts share.
 * @returns a function that stops it and waits for the current removal
 */
export function startOrphanSweep({
  stores,
  aliases,
  log,
}: SweepOptions & { aliases: Pick<AliasStore, 'sweep'> }): () => Promise<void> {
  const over = new AbortController();

  const sweep = async () => {
    await pause(FIRST_AFTER_MS * (1 + Math.random()), over.signal);
    while (!over.signal.aborted) {
      await repairIndexes({ stores, log });
      await aliases.sweep(DAY_MS).catch((error: unknown) => {
        log.warn({ err: error }, 'removed names of adapters could not be forgotten; trying again tomorrow');
      });
      if (stores.shared && !over.signal.aborted) await sweepShared({ stores, log }, over.signal);
      await pause(DAY_MS, over.signal);
    }
  };
  const running = sweep();
  return async () => {
    over.abort();
    await running;
  };
}

/** Adds the entries that datasets and adapters lack, as after a restore, and removes those of publishers and deleters that died. */
export async function repairIndexes({ stores, log }: SweepOptions): Promise<void> {
  for (const [kind, read] of Object.entries(LISTED)) {
    try {
      const store = await stores.open(kind);
      const repaired = await store.repairIndex((id) => read(store, id).catch(nullIfBroken), DAY_MS);
      if (repaired > 0) log.info({ kind, repaired }, 'repaired entries of the index');
    } catch (error) {
      log.warn({ kind, err: error }, 'the index could not be repaired; trying again tomorrow');
    }
  }
}

async function sweepShared({ stores, log }: SweepOptions, signal: AbortSignal): Promise<void> {
  for (const kind of KINDS) {
    try {
      const removed = await (await stores.open(kind)).sweepOrphans(DAY_MS);
      if (removed > 0) log.info({ kind, removed }, 'removed incomplete uploads from the store');
    } catch (error) {
      log.warn({ kind, err: error }, 'incomplete uploads could not be removed from the store; trying again tomorrow');
    }
    if (signal.aborted) return;
  }
  await stores.sweepStagings(DAY_MS).catch((error: unknown) => {
    log.warn({ err: error }, 'incomplete folders could not be removed; trying again tomorrow');
  });
}

/** Null for a bundle that no longer exists or cannot be read, and is in no list. */
function nullIfBroken(error: unknown): null {
  if (!(error instanceof ProductError) || error.code === 'storage_unavailable') throw error;
  return null;
}
