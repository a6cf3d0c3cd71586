import type { ByteLimits } from './byte-quota.js';
import type { Identity } from './identity.js';

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
    const none = Number.MAX_SAFE_INTEGER;
    return {
      ...limits,
      requestsPerMinute: none,
      activeJobs: none,
      keptJobs: none,
      eventStreams: none,
      transfers: none,
      uploads: none,
      generationRequests: none,
      datasets: none,
      adapters: none,
      datasetBytes: none,
      adapterBytes: none,
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
