import { type Owner, ProductError, type Report } from '@lorasmith/contracts';
import type { ByteQuota } from '../access/byte-quota.js';
import type { AccessLimits } from '../access/limits.js';

/** Adapters are float32. */
const BYTES_PER_NUMBER = 4;

/** Looks whether there is room for the adapter that a job will make. */
export interface AdapterRoom {
  /** @param report - Of the job; null: nobody knows yet how large it will be. @throws ProductError `quota_exceeded`, `storage_full` */
  check(owner: Owner, report: Report | null, limits: AccessLimits): Promise<void>;
}

export function createAdapterRoom(quota: Pick<ByteQuota, 'checkRoom'>): AdapterRoom {
  return {
    async check(owner, report, limits) {
      if (owner === null || report === null) return;
      const room = { own: limits.adapterBytes, total: limits.totalAdapterBytes };
      try {
        await quota.checkRoom(owner, room, BYTES_PER_NUMBER * report.parameters.trained);
      } catch (error) {
        // Without the registry nobody can say; jobs do not need it otherwise.
        if (!(error instanceof ProductError) || error.code !== 'registry_unavailable') throw error;
      }
    },
  };
}
