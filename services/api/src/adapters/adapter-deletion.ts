import { readManifest } from '@lorasmith/artifacts';
import { ProductError } from '@lorasmith/contracts';
import type { JobStore } from '@lorasmith/queue';
import { type Caller, mayUse } from '@lorasmith/service-kit';
import type { BundleStore } from '@lorasmith/storage';

/** The store of the jobs that begin from adapters. */
export interface AdapterUsers {
  inputs: Pick<JobStore['inputs'], 'beginDeletion'>;
}

export interface AdapterDeletionOptions {
  adapters: Pick<BundleStore, 'has' | 'readJson'>;
  jobs: AdapterUsers;
}

/** Errors of adapters from which no job can begin. The registry reports them itself, or deletes the adapter although it is broken. */
const UNUSABLE = ['adapter_not_found', 'invalid_adapter', 'unsupported_version'];

/**
 * Prevents for the next minute that a job begins from an adapter, so that it can be deleted. Has no effect for an adapter that cannot be
 * read, or that belongs to another key.
 * @throws ProductError `in_use` while unfinished jobs begin from it; `redis_unavailable`, `storage_unavailable`
 */
export async function beginDeletionIfAllowed(
  { adapters, jobs }: AdapterDeletionOptions,
  id: string,
  caller: Caller,
): Promise<void> {
  try {
    await readManifest(adapters, id, { isAllowed: (owner) => mayUse(caller, owner) });
  } catch (error) {
    if (error instanceof ProductError && UNUSABLE.includes(error.code)) return;
    throw error;
  }
  await beginAdapterDeletion(jobs, id);
}

/**
 * Prevents for the next minute that a job begins from an adapter that its caller may delete.
 * @throws ProductError `in_use` while unfinished jobs begin from it; `redis_unavailable`
 */
export async function beginAdapterDeletion(jobs: AdapterUsers, id: string): Promise<void> {
  const users = await jobs.inputs.beginDeletion(id);
  if (users.length === 0) return;
  const message = `${users.slice(0, 5).join(', ')} begin from ${id}. Cancel these jobs, or wait for them, first.`;
  throw new ProductError('in_use', message, { param: 'id' });
}
