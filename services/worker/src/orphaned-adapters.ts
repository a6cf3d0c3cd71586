import type { JobId } from '@lorasmith/contracts';
import type { JobStore } from '@lorasmith/queue';
import type { BundleStore } from '@lorasmith/storage';
import { adapterIdOf } from './publish-adapter.js';

// An orphaned adapter was published after its job had ended without one. A worker that stands still between its last look
// at the record and the rename, for longer than its lock, publishes when the job may have been cancelled long ago.

export interface AdapterOwners {
  store: Pick<JobStore, 'whileEnded'>;
  adapters: BundleStore;
}

/**
 * Removes the adapter of a job that has ended without one. Meanwhile the job cannot be resumed, so that no other worker
 * takes the adapter for its own.
 * @returns whether there was one
 */
export async function removeOrphanedAdapter(owners: AdapterOwners, id: JobId): Promise<boolean> {
  // There is nearly never one, and the job can then be resumed at once.
  return (await owners.adapters.has(adapterIdOf(id))) && (await removeIfOrphaned(owners, id));
}

/**
 * Removes the orphaned adapters of all jobs, where the worker died before it could look again. An adapter outlives the
 * record of its job.
 * @param signal - Ends it early.
 * @returns how many there were
 */
export async function removeOrphanedAdapters(owners: AdapterOwners, signal: AbortSignal): Promise<number> {
  let removed = 0;
  for (const id of await owners.adapters.list()) {
    if (signal.aborted) break;
    if (await removeIfOrphaned(owners, id.replace(/^ad_/, 'job_'))) removed++;
  }
  return removed;
}

async function removeIfOrphaned({ store, adapters }: AdapterOwners, id: JobId): Promise<boolean> {
  const removed = await store.whileEnded(id, ['cancelled', 'failed'], () => adapters.delete(adapterIdOf(id)));
  return removed ?? false;
}
