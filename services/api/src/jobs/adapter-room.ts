import { type Owner, ProductError } from '@lorasmith/contracts';
import type { ByteQuota } from '../access/byte-quota.js';
import { type AccessLimits, adapterLimits } from '../access/limits.js';

/** Finds room for the adapter that a job will make. */
export interface AdapterRoom {
  /**
   * Makes the job, which reserves the bytes of its adapter, if there is room for them.
   * @param bytes - What the adapter takes at most
   * @throws ProductError `quota_exceeded`, `storage_full`, and what making the job throws
   */
  within<Result>(owner: Owner, bytes: number, limits: AccessLimits, make: () => Promise<Result>): Promise<Result>;
}

export function createAdapterRoom(quota: ByteQuota): AdapterRoom {
  return {
    async within(owner, bytes, limits, make) {
      // Held until the job has reserved them, so that of two jobs sent at once one sees the other.
      const room = quota.begin(owner, adapterLimits(limits));
      try {
        await room.hold(bytes).catch((error: unknown) => {
          // Without the registry nobody can say; jobs do not need it otherwise.
          if (!(error instanceof ProductError) || error.code !== 'registry_unavailable') throw error;
        });
        room.checkOneMore();
        return await make();
      } finally {
        // The job is made, or refused for another reason; what is not let go now is dropped later.
        await room.end().catch(() => {});
      }
    },
  };
}
