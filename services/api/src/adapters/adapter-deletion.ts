import { readManifest } from '@lorasmith/artifacts';
import { ProductError } from '@lorasmith/contracts';
import type { JobStore } from '@lorasmith/job-store';
import { type Caller, mayUse } from '@lorasmith/service-kit';
import type { BundleStore } from '@lorasmith/storage';

export interface AdapterDeletionOptions {
  adapters: Pick<BundleStore, 'has' | 'readJson'>;
  jobs: { inputs: Pick<JobStore['inputs'], 'beginDeletion'> };
}

/** What the registry reports itself, or deletes although it is broken: no job can begin from these. */
const UNUSABLE = ['adapter_not_found', 'invalid_adapter', 'unsupported_version'];

/**
 * Call this before an adapter is deleted: no job can begin from it for the next minute.
 * @throws ProductError `in_use` while unfinished jobs begin from it; `redis_unavailable`, `storage_unavailable`
 */
export async function beginAdapterDeletion(
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
  const users = await jobs.inputs.beginDeletion(id);
  if (users.length === 0) return;
  const message = `${users.slice(0, 5).join(', ')} begin from ${id}. Cancel these jobs, or wait for them, first.`;
  throw new ProductError('in_use', message, { param: 'id' });
}
