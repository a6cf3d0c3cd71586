import type { Redis } from 'ioredis';
import { type Authenticator, createAuthenticator, type WithoutKeys } from './authenticate.js';
import { type ByteHolds, createByteHolds } from './byte-holds.js';
import type { KeyStore } from './key-store.js';
import type { AccessLimits } from './limits.js';
import { createRateLimit, type RateLimit } from './rate-limit.js';

/** Who may do what, and how much of it. */
export interface Access {
  authenticator: Authenticator;
  /** Null: calls are not counted. */
  rateLimit: RateLimit | null;
  /** Null: uploads at the same time do not know of each other. */
  holds: ByteHolds | null;
  limits: AccessLimits;
}

export interface AccessOptions {
  redis: Redis;
  prefix: string;
  keys: KeyStore;
  withoutKeys: WithoutKeys;
  limits: AccessLimits;
  /** Longest time that an upload takes. */
  uploadTimeoutMs: number;
}

/** An upload is held to be under way for so much longer than it can be. */
const UPLOAD_GRACE_MS = 60_000;

export function createAccess(options: AccessOptions): Access {
  const { redis, prefix, keys, withoutKeys, limits, uploadTimeoutMs } = options;
  return {
    authenticator: createAuthenticator({ keys, withoutKeys }),
    rateLimit: createRateLimit({ redis, prefix }),
    holds: createByteHolds({ redis, prefix, lastMs: uploadTimeoutMs + UPLOAD_GRACE_MS }),
    limits,
  };
}

const NO_LIMIT = Number.MAX_SAFE_INTEGER;

/** Everything to everybody who reaches the application: for one that does not listen. */
export const OPEN_ACCESS: Access = Object.freeze({
  authenticator: createAuthenticator({ keys: null, withoutKeys: 'everything' }),
  rateLimit: null,
  holds: null,
  limits: {
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
    waitingJobs: NO_LIMIT,
    totalDatasetBytes: NO_LIMIT,
    totalAdapterBytes: NO_LIMIT,
  },
});
