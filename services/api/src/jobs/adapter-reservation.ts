import { type Owner, ProductError } from '@lorasmith/contracts';
import type { ByteQuota } from '../access/byte-quota.js';
import { type AccessLimits, adapterLimits } from '../access/limits.js';

/** Creates jobs within the quota of adapters. */
export interface AdapterReservation {
  /**
   * Creates jobs, which reserve the bytes of their adapters, if the quota allows it.
   * @param bytes - The maximum size of the adapters
   * @param adapters - How many there will be @defaultValue 1
   * @throws ProductError `quota_exceeded`, `storage_full`; errors of `create`
   */
  within<Result>(
    owner: Owner,
    bytes: number,
    limits: AccessLimits,
    create: () => Promise<Result>,
    adapters?: number,
  ): Promise<Result>;
}

export function createAdapterReservation(quota: ByteQuota): AdapterReservation {
  return {
    async within(owner, bytes, limits, create, adapters = 1) {
      // The bytes are also reserved here until the job has reserved them, so that concurrent requests count.
      const reservation = quota.begin(owner, adapterLimits(limits));
      try {
        await reservation.reserve(bytes).catch((error: unknown) => {
          // Only the registry knows the stored bytes. Jobs do not need it otherwise, so they are accepted without it.
          if (!(error instanceof ProductError) || error.code !== 'registry_unavailable') throw error;
        });
        reservation.checkMore(adapters);
        return await create();
      } finally {
        // If this fails, the reservation expires.
        await reservation.end().catch(() => {});
      }
    },
  };
}
