import type { ByteLimits } from './byte-quota.js';
import type { Identity } from './identity.js';

/** What is allowed at most, of each key unless its record says otherwise, and in all. */
export interface AccessLimits {
  requestsPerMinute: number;
  /** Jobs of a key that wait or run. */
  activeJobs: number;
  /** Ended jobs that are kept of a key. */
  keptJobs: number;
  /** Bytes of all datasets of a key. */
  datasetBytes: number;
  /** Bytes of all adapters of a key. */
  adapterBytes: number;
  /** Datasets of a key. */
  datasets: number;
  /** Adapters of a key. */
  adapters: number;
  /** Event streams of a key at a time, in this process. */
  eventStreams: number;
  /** Event streams of everybody at a time, in this process. */
  totalEventStreams: number;
  /** Downloads and imports of adapters of a key at a time, in this process. */
  transfers: number;
  /** Downloads and imports of adapters of everybody at a time, in this process. */
  totalTransfers: number;
  /** Uploads of datasets of a key at a time, in this process. */
  uploads: number;
  /** Uploads of datasets of everybody at a time, in this process. */
  totalUploads: number;
  /** Jobs of everybody that wait for a worker. */
  waitingJobs: number;
  /** Ended jobs that are kept of everybody. */
  totalKeptJobs: number;
  /** Datasets of everybody. */
  totalDatasets: number;
  /** Adapters of everybody. */
  totalAdapters: number;
  /** Bytes of everybody's datasets. */
  totalDatasetBytes: number;
  /** Bytes of everybody's adapters. */
  totalAdapterBytes: number;
}

/** What the adapters of a key, and all, are kept within. */
export function adapterLimits(limits: AccessLimits): ByteLimits {
  const things = { own: limits.adapters, total: limits.totalAdapters };
  return { own: limits.adapterBytes, total: limits.totalAdapterBytes, things };
}

/** What the job store holds a job to that is sent or resumed. */
export function jobLimitsOf(limits: AccessLimits) {
  return {
    maxOfOwner: limits.activeJobs,
    maxWaiting: limits.waitingJobs,
    keptOfOwner: limits.keptJobs,
    keptInAll: limits.totalKeptJobs,
  };
}

/** The limits of one key; without a key only those of everybody together. */
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
