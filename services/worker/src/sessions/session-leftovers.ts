import { readSnapshot } from '@lorasmith/artifacts';
import { ProductError, type SnapshotId } from '@lorasmith/contracts';
import type { TrainingSessionServer } from '@lorasmith/queue';
import type { BundleStore } from '@lorasmith/storage';

/** A snapshot is known moments after it appears, or never. */
const YOUNG_MS = 3_600_000;

/** Ends the sessions of clients that are silent, and removes the snapshots of sessions that have ended. @returns how many snapshots */
export async function endSilentSessions(
  server: Pick<TrainingSessionServer, 'endSilent' | 'clean'>,
  snapshots: BundleStore,
): Promise<number> {
  let removed = 0;
  await server.endSilent();
  await server.clean(async (id) => {
    if (await snapshots.delete(id)) removed++;
  });
  return removed;
}

/** Removes the snapshots of workers that died between making one and recording it. @returns how many there were */
export async function removeLostSnapshots(
  server: Pick<TrainingSessionServer, 'isSnapshotKnown'>,
  snapshots: BundleStore,
  signal: AbortSignal,
): Promise<number> {
  let removed = 0;
  for (const id of (await snapshots.list()) as SnapshotId[]) {
    if (signal.aborted) break;
    const record = await readSnapshot(snapshots, id).catch((error: unknown) => {
      if (error instanceof ProductError && error.code !== 'storage_unavailable') return null;
      throw error;
    });
    if (record !== null) {
      const isYoung = Date.now() - Date.parse(record.created_at) < YOUNG_MS;
      if (isYoung || (await server.isSnapshotKnown(id, record.model))) continue;
    }
    if (await snapshots.delete(id)) removed++;
  }
  return removed;
}
