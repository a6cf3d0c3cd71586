import { setTimeout as sleep } from 'node:timers/promises';
import type { JobStore } from '@lorasmith/job-store';
import type { ExampleStore } from '@lorasmith/planning';
import type { BundleStore, Stores } from '@lorasmith/storage';
import type { Logger } from 'pino';
import type { JobFolders, SweptStore } from './job-folders.js';
import { removeLateAdapters } from './late-adapters.js';

const RECONCILE_EVERY_MS = 30_000;
/** More often than the rest: checkpoints are large, and there is a limit to their bytes. */
const SWEEP_JOBS_EVERY_MS = 300_000;
const SWEEP_EVERY_MS = 3_600_000;
/** A bundle is staged in seconds; what is older was left by a process that died. */
const STAGING_LEFTOVER_MS = 3_600_000;

export interface MaintenanceOptions {
  store: Pick<JobStore, 'reconcile'> & SweptStore;
  folders: JobFolders;
  adapters: BundleStore;
  datasets: BundleStore;
  sweepStagings: Stores['sweepStagings'];
  /** Of this host. */
  examples: ExampleStore;
  log: Logger;
  reconcileEveryMs?: number;
}

/** An upload takes as long as the connection of its sender, a base model as long as it takes to fetch. */
const ANY_LEFTOVER_MS = 24 * 3_600_000;

/**
 * Mends, at once and then again and again, what processes that died left behind: jobs that are in no queue, folders
 * that nobody needs.
 * @returns ends it, after what is being done
 */
export function startMaintenance(options: MaintenanceOptions): () => Promise<void> {
  const {
    store,
    folders,
    adapters,
    datasets,
    sweepStagings,
    examples,
    log,
    reconcileEveryMs = RECONCILE_EVERY_MS,
  } = options;
  const over = new AbortController();

  const repeat = async (name: string, everyMs: number, work: () => Promise<object>) => {
    while (!over.signal.aborted) {
      try {
        const done = await work();
        if (Object.values(done).some((value) => (Array.isArray(value) ? value.length > 0 : value > 0))) {
          log.info(done, name);
        }
      } catch (error) {
        log.warn({ err: error }, `${name} failed and is tried again later`);
      }
      await sleep(everyMs, undefined, { signal: over.signal, ref: false }).catch(() => {});
    }
  };
  const running = [
    repeat('queue mended', reconcileEveryMs, async () => {
      const mended = await store.reconcile();
      // The workers that had those jobs are gone, and left what they were writing or had just published.
      if (mended.ended.length > 0) {
        await folders.sweep(store, over.signal);
        await removeLateAdapters({ store, adapters }, over.signal);
      }
      return mended;
    }),
    repeat('job folders removed', SWEEP_JOBS_EVERY_MS, async () => ({
      jobFolders: await folders.sweep(store, over.signal),
    })),
    repeat('leftovers removed', SWEEP_EVERY_MS, async () => ({
      lateAdapters: await removeLateAdapters({ store, adapters }, over.signal),
      stagings: await adapters.sweepStaging(STAGING_LEFTOVER_MS),
      others: await sweepStagings(ANY_LEFTOVER_MS),
      tokenized: await examples.sweep((dataset) => datasets.has(dataset)),
    })),
  ];
  return async () => {
    over.abort();
    await Promise.all(running);
  };
}
