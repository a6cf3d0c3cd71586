import type { Redis } from 'ioredis';
import { type Authenticator, createAuthenticator } from './authenticate.js';
import { type ByteReservations, createByteReservations } from './byte-reservations.js';
import type { KeyStore } from './key-store.js';
import type { AccessLimits } from './limits.js';
import { createRateLimit, type RateLimit } from './rate-limit.js';
import type { WithoutKeys } from './without-keys.js';

/** Authentication, rate limit, quotas and limits. */
export interface Access {
  authenticator: Authenticator;
  /** Null: calls are not limited. */
  rateLimit: RateLimit | null;
  /** Null: concurrent uploads do not count against each other's quota. */
  reservations: ByteReservations | null;
  limits: AccessLimits;
}

export interface AccessOptions {
  redis: Redis;
  prefix: string;
  keys: KeyStore;
  withoutKeys: WithoutKeys;
  limits: AccessLimits;
  /** Time limit of an upload. */
  uploadTimeoutMs: number;
}

/** A reservation outlasts the time limit of its upload by this time. */
const UPLOAD_GRACE_MS = 60_000;

export function createAccess(options: AccessOptions): Access {
  const { redis, prefix, keys, withoutKeys, limits, uploadTimeoutMs } = options;
  return {
    authenticator: createAuthenticator({ keys, withoutKeys }),
    rateLimit: createRateLimit({ redis, prefix }),
    reservations: createByteReservations({ redis, prefix, durationMs: uploadTimeoutMs + UPLOAD_GRACE_MS }),
    limits,
  };
}

const NO_LIMIT = Number.MAX_SAFE_INTEGER;

/** Allows everything, for an application that does not listen. */
export const OPEN_ACCESS: Access = Object.freeze({
  authenticator: createAuthenticator({ keys: null, withoutKeys: 'everything' }),
  rateLimit: null,
  reservations: null,
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
    generationRequests: NO_LIMIT,
    totalGenerationRequests: NO_LIMIT,
    waitingJobs: NO_LIMIT,
    totalDatasetBytes: NO_LIMIT,
    totalAdapterBytes: NO_LIMIT,
  },
});
