import { type KeyId, type Owner, ProductError } from '@lorasmith/contracts';
import { onRedis } from '@lorasmith/queue';
import type { Redis } from 'ioredis';
import { RateLimiterRedis } from 'rate-limiter-flexible';
import type { Identity } from './authenticate.js';
import type { ByteLimits, ByteQuota } from './byte-quota.js';

/** Limits of each key, which its record may override, and of all keys together. */
export interface AccessLimits {
  requestsPerMinute: number;
  /** Unfinished jobs of a key. */
  activeJobs: number;
  /** Stored ended jobs of a key. */
  keptJobs: number;
  /** Bytes of all datasets of a key. */
  datasetBytes: number;
  /** Bytes of all adapters of a key. */
  adapterBytes: number;
  /** Datasets of a key. */
  datasets: number;
  /** Adapters of a key. */
  adapters: number;
  /** Concurrent event streams of a key, in this process. */
  eventStreams: number;
  /** Concurrent event streams of all keys, in this process. */
  totalEventStreams: number;
  /** Concurrent downloads and imports of adapters of a key, in this process. */
  transfers: number;
  /** Concurrent downloads and imports of adapters of all keys, in this process. */
  totalTransfers: number;
  /** Concurrent uploads of datasets of a key, in this process. */
  uploads: number;
  /** Concurrent uploads of datasets of all keys, in this process. */
  totalUploads: number;
  /** Requests for text of a key that are being answered, in this process. */
  generationRequests: number;
  /** Requests for text of all keys that are being answered, in this process. */
  totalGenerationRequests: number;
  /** Jobs of all keys that wait for a worker. */
  waitingJobs: number;
  /** Stored ended jobs of all keys. */
  totalKeptJobs: number;
  /** Datasets of all keys. */
  totalDatasets: number;
  /** Adapters of all keys. */
  totalAdapters: number;
  /** Bytes of all datasets of all keys. */
  totalDatasetBytes: number;
  /** Bytes of all adapters of all keys. */
  totalAdapterBytes: number;
}

/** The largest number: no limit. */
const NO_LIMIT = Number.MAX_SAFE_INTEGER;

/** Limits that allow everything. */
export const NO_LIMITS: AccessLimits = {
  requestsPerMinute: NO_LIMIT,
  activeJobs: NO_LIMIT,
  keptJobs: NO_LIMIT,
  totalKeptJobs: NO_LIMIT,
  datasets: NO_LIMIT,
  totalDatasets: NO_LIMIT,
  adapters: NO_LIMIT,
  totalAdapters: NO_LIMIT,
  datasetBytes: NO_LIMIT,
  adapterBytes: NO_LIMIT,
  eventStreams: NO_LIMIT,
  totalEventStreams: NO_LIMIT,
  transfers: NO_LIMIT,
  totalTransfers: NO_LIMIT,
  uploads: NO_LIMIT,
  totalUploads: NO_LIMIT,
  generationRequests: NO_LIMIT,
  totalGenerationRequests: NO_LIMIT,
  waitingJobs: NO_LIMIT,
  totalDatasetBytes: NO_LIMIT,
  totalAdapterBytes: NO_LIMIT,
};

/** The limits of adapters. */
export function adapterLimits(limits: AccessLimits): ByteLimits {
  const things = { own: limits.adapters, total: limits.totalAdapters };
  return { own: limits.adapterBytes, total: limits.totalAdapterBytes, things };
}

/** The limits that the job store checks when a job is submitted or resumed. */
export function jobLimitsOf(limits: AccessLimits) {
  return {
    maxOfOwner: limits.activeJobs,
    maxWaiting: limits.waitingJobs,
    keptOfOwner: limits.keptJobs,
    keptInAll: limits.totalKeptJobs,
  };
}

/** The limits of one key. Without a key, only those of all keys together apply. */
export function limitsOf({ key }: Identity, limits: AccessLimits): AccessLimits {
  if (key === null) {
    return {
      ...limits,
      requestsPerMinute: NO_LIMIT,
      activeJobs: NO_LIMIT,
      keptJobs: NO_LIMIT,
      eventStreams: NO_LIMIT,
      transfers: NO_LIMIT,
      uploads: NO_LIMIT,
      generationRequests: NO_LIMIT,
      datasets: NO_LIMIT,
      adapters: NO_LIMIT,
      datasetBytes: NO_LIMIT,
      adapterBytes: NO_LIMIT,
    };
  }
  const own = key.limits;
  return {
    ...limits,
    requestsPerMinute: own.requests_per_minute ?? limits.requestsPerMinute,
    activeJobs: own.active_jobs ?? limits.activeJobs,
    datasetBytes: own.dataset_bytes ?? limits.datasetBytes,
    adapterBytes: own.adapter_bytes ?? limits.adapterBytes,
  };
}

/** Limits the calls of each key, across all api processes. */
export interface RateLimit {
  /**
   * Counts one call. A minute starts with the first call after the previous minute.
   * @throws ProductError `too_many_requests`, `redis_unavailable`
   */
  count(key: KeyId, perMinute: number): Promise<void>;
}

const MINUTE_SECONDS = 60;

export function createRateLimit({ redis, prefix }: { redis: Redis; prefix: string }): RateLimit {
  // Limits differ between keys, so the count is compared below.
  const counter = new RateLimiterRedis({
    storeClient: redis,
    keyPrefix: `${prefix}api-keys:calls`,
    points: Number.MAX_SAFE_INTEGER,
    duration: MINUTE_SECONDS,
  });
  return {
    async count(key, perMinute) {
      const { consumedPoints, msBeforeNext } = await onRedis(() => counter.consume(key));
      if (consumedPoints <= perMinute) return;
      const message = `This key has reached its limit of ${perMinute} calls per minute. Wait a moment.`;
      throw new ProductError('too_many_requests', message, {
        retryAfterSeconds: Math.max(1, Math.ceil(msBeforeNext / 1000)),
      });
    },
  };
}

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
