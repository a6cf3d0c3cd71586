import type { JobId } from '@lorasmith/contracts';
import type { JobStore } from '@lorasmith/job-store';
import type { BundleStore } from '@lorasmith/storage';
import { adapterIdOf } from './publish-adapter.js';

export interface LateAdapters {
  store: Pick<JobStore, 'whileEnded'>;
  adapters: BundleStore;
}

/**
 * Takes back the adapter of a job that has ended without one. A worker that stands still between its last look and the
 * rename, for longer than its lock, publishes when the job may long have been cancelled.
 * Whoever resumes the job meanwhile is refused, so that no other worker takes the adapter for its own.
 * @returns whether there was one
 */
export async function removeLateAdapter(late: LateAdapters, id: JobId): Promise<boolean> {
  // Nearly never: nobody is kept from resuming the job for nothing.
  return (await late.adapters.has(adapterIdOf(id))) && (await takeBack(late, id));
}

/**
 * Those of every job, where the worker died before it could look again. An adapter outlives the record of its job.
 * @param signal - Ends it early
 */
export async function removeLateAdapters(late: LateAdapters, signal: AbortSignal): Promise<number> {
  let removed = 0;
  for (const id of await late.adapters.list()) {
    if (signal.aborted) break;
    if (await takeBack(late, id.replace(/^ad_/, 'job_'))) removed++;
  }
  return removed;
}

async function takeBack({ store, adapters }: LateAdapters, id: JobId): Promise<boolean> {
  const removed = await store.whileEnded(id, ['cancelled', 'failed'], () => adapters.delete(adapterIdOf(id)));
  return removed ?? false;
}
