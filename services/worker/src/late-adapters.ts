import type { JobId } from '@lorasmith/contracts';
import type { JobStore } from '@lorasmith/job-store';
import type { BundleStore } from '@lorasmith/storage';
import { adapterIdOf } from './publish-adapter.js';

export interface LateAdapters {
  store: Pick<JobStore, 'getJob'>;
  adapters: BundleStore;
}

/**
 * Takes back the adapter of a job that has ended without one. A worker that stands still between its last look and the
 * rename, for longer than its lock, publishes when the job may long have been cancelled.
 * @returns whether there was one
 */
export async function removeLateAdapter({ store, adapters }: LateAdapters, id: JobId): Promise<boolean> {
  const job = await store.getJob(id);
  if (job?.status !== 'cancelled' && job?.status !== 'failed') return false;
  return await adapters.delete(adapterIdOf(id));
}

/** Those of every job, where the worker died before it could look again. An adapter outlives the record of its job. */
export async function removeLateAdapters({ store, adapters }: LateAdapters): Promise<number> {
  let removed = 0;
  for (const id of await adapters.list()) {
    if (await removeLateAdapter({ store, adapters }, id.replace(/^ad_/, 'job_'))) removed++;
  }
  return removed;
}
