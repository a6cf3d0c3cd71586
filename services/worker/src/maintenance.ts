import { pause } from '@lorasmith/concurrency';
import type { ExampleStore } from '@lorasmith/planning';
import type { JobStore, TrainingSessionServer } from '@lorasmith/queue';
import type { BundleStore, Stores } from '@lorasmith/storage';
import type { Logger } from 'pino';
import type { FolderSweeps, SweptStore } from './folder-cleanup.js';
import { removeOrphanedAdapters } from './publish-adapter.js';
import { endSilentSessions, removeLostSnapshots } from './sessions/session-leftovers.js';

const RECONCILE_EVERY_MS = 30_000;
/** More often than the rest: checkpoints are large, and have a quota. */
const SWEEP_JOBS_EVERY_MS = 120_000;
const SWEEP_EVERY_MS = 3_600_000;
const THIN_EVERY_MS = 60_000;
const END_SILENT_EVERY_MS = 30_000;
/** The time between two questions of a worker if work that one does for all is due. */
const ASK_EVERY_MS = 10_000;
/** An adapter is staged in seconds; an older staging was left by a process that died. */
const STAGING_LEFTOVER_MS = 3_600_000;
/** Uploads and downloads of base models may take hours. */
const ANY_LEFTOVER_MS = 24 * 3_600_000;

export interface MaintenanceOptions {
  store: Pick<JobStore, 'reconcile' | 'thinEvents' | 'whenDue'> & SweptStore;
  sweeps: FolderSweeps;
  adapters: BundleStore;
  datasets: BundleStore;
  sweepStagings: Stores['sweepStagings'];
  sessions: Pick<TrainingSessionServer, 'endSilent' | 'clean' | 'isSnapshotKnown'>;
  snapshots: BundleStore;
  /** The token store of this host. */
  examples: ExampleStore;
  log: Logger;
}

/**
 * Repairs what processes that died left behind: jobs that are in no queue, folders that are no longer needed. One worker repairs for all what
 * all share (see `JobStore.whenDue`); each repairs at once, and then at intervals, what is on its host.
 * @returns ends it, once the work under way is done
 */
export function startMaintenance(options: MaintenanceOptions): () => Promise<void> {
  const { store, sweeps, adapters, datasets, sweepStagings, sessions, snapshots, examples, log } = options;
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
  const repeatForAll = (name: string, everyMs: number, work: (signal: AbortSignal) => Promise<object>) => {
    const shared = { name: name.replaceAll(' ', '-'), everyMs, ending: over.signal };
    return repeat(name, ASK_EVERY_MS, async () => (await store.whenDue(shared, work)) ?? {});
  };
  const running = [
    repeatForAll('queue repaired', RECONCILE_EVERY_MS, async (signal) => {
      const repaired = await store.reconcile();
      // The workers of those jobs have died, and left what they were writing or had just published.
      if (repaired.ended.length > 0) {
        await sweeps.sweep(store, signal);
        await removeOrphanedAdapters({ store, adapters }, signal);
      }
      return repaired;
    }),
    repeatForAll('job folders removed', SWEEP_JOBS_EVERY_MS, async (signal) => ({
      jobFolders: await sweeps.sweep(store, signal),
    })),
    repeatForAll('orphaned adapters removed', SWEEP_EVERY_MS, async (signal) => ({
      orphanedAdapters: await removeOrphanedAdapters({ store, adapters }, signal),
    })),
    repeatForAll('events thinned', THIN_EVERY_MS, async (signal) => ({
      jobs: await store.thinEvents(signal),
    })),
    repeatForAll('snapshots of ended sessions removed', END_SILENT_EVERY_MS, async () => ({
      snapshots: await endSilentSessions(sessions, snapshots),
    })),
    repeatForAll('lost snapshots removed', SWEEP_EVERY_MS, async (signal) => ({
      snapshots: await removeLostSnapshots(sessions, snapshots, signal),
    })),
    repeat('copies removed', SWEEP_JOBS_EVERY_MS, async () => ({
      jobFolders: await sweeps.sweepCopies(store, over.signal),
    })),
    repeat('leftovers removed', SWEEP_EVERY_MS, async () => ({
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
