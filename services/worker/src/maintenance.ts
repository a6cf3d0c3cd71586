import { pause } from '@lorasmith/concurrency';
import type { JobStore } from '@lorasmith/job-store';
import type { ExampleStore } from '@lorasmith/planning';
import type { BundleStore, Stores } from '@lorasmith/storage';
import type { Logger } from 'pino';
import type { JobFolders, SweptStore } from './job-folders.js';
import { removeOrphanedAdapters } from './orphaned-adapters.js';

const RECONCILE_EVERY_MS = 30_000;
/** More often than the rest: checkpoints are large, and have a quota. */
const SWEEP_JOBS_EVERY_MS = 300_000;
const SWEEP_EVERY_MS = 3_600_000;
/** An adapter is staged in seconds; an older staging was left by a process that died. */
const STAGING_LEFTOVER_MS = 3_600_000;

export interface MaintenanceOptions {
  store: Pick<JobStore, 'reconcile'> & SweptStore;
  folders: JobFolders;
  adapters: BundleStore;
  datasets: BundleStore;
  sweepStagings: Stores['sweepStagings'];
  /** The token store of this host. */
  examples: ExampleStore;
  log: Logger;
  reconcileEveryMs?: number;
}

/** Uploads and downloads of base models may take hours. */
const ANY_LEFTOVER_MS = 24 * 3_600_000;

/**
 * Repairs, at once and then at intervals, what processes that died left behind: jobs that are in no queue, folders that
 * are no longer needed.
 * @returns ends it, once the work under way is done
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
        log.warn({ err: error }, `${name} failed; it will be tried again later`);
      }
      await pause(everyMs, over.signal);
    }
  };
  const running = [
    repeat('queue repaired', reconcileEveryMs, async () => {
      const repaired = await store.reconcile();
      // The workers of those jobs have died, and left what they were writing or had just published.
      if (repaired.ended.length > 0) {
        await folders.sweep(store, over.signal);
        await removeOrphanedAdapters({ store, adapters }, over.signal);
      }
      return repaired;
    }),
    repeat('job folders removed', SWEEP_JOBS_EVERY_MS, async () => ({
      jobFolders: await folders.sweep(store, over.signal),
    })),
    repeat('leftovers removed', SWEEP_EVERY_MS, async () => ({
      orphanedAdapters: await removeOrphanedAdapters({ store, adapters }, over.signal),
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
