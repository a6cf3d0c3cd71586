import { createHash } from 'node:crypto';
import { type DatasetId, JOB_STATUSES, type JobId, type JobStatus, type Owner } from '@lorasmith/contracts';

/** The names of every Redis key of the job store. All begin with the prefix; put a `{hash tag}` in it for a cluster. */
export interface JobKeys {
  /** Hash: the record of a job. */
  job(id: JobId): string;
  /** Stream: the events of a job. */
  events(id: JobId): string;
  /** Sorted set by sequence number: the jobs with this status. */
  withStatus(status: JobStatus): string;
  /** One key per status, in the order of `JOB_STATUSES`; the scripts rely on the order. */
  everyStatus: string[];
  /** Sorted set by sequence number: every job. */
  all: string;
  /** Sorted set by sequence number: the jobs that belong to this API key, or to none. */
  ofOwner(owner: Owner): string;
  /** Hash by unfinished job: `bytes:owner` of the adapter that it will make. */
  reservedBytes: string;
  /** Counter: gives each job its place in the lists. */
  sequence: string;
  /** Set: the unfinished jobs that read this dataset. */
  activeOfDataset(id: DatasetId): string;
  /** String, for a minute: the dataset is being deleted, no job may begin to read it. */
  datasetDeletion(id: DatasetId): string;
  /** String, for a minute unless it is renewed: what the ended job left is being removed, it may not be resumed. */
  tidying(id: JobId): string;
  /** Hash: the job that an idempotency key of this owner made. */
  idempotency(key: string, owner: Owner): string;
  /** Channel on which the id of a job is published when it has a new event. */
  eventChannel: string;
  /** Hash by worker name: what the workers measured of their machines. */
  machines: string;
  /** BullMQ's own keys begin with it. */
  queuePrefix: string;
}

export function jobKeys(prefix: string): JobKeys {
  const withStatus = (status: JobStatus) => `${prefix}jobs:${status}`;
  return {
    job: (id) => `${prefix}job:${id}`,
    events: (id) => `${prefix}job:${id}:events`,
    withStatus,
    everyStatus: JOB_STATUSES.map(withStatus),
    all: `${prefix}jobs`,
    ofOwner: (owner) => `${prefix}owner:${owner ?? 'none'}:jobs`,
    reservedBytes: `${prefix}jobs:reserved-bytes`,
    sequence: `${prefix}jobs:sequence`,
    activeOfDataset: (id) => `${prefix}dataset:${id}:active-jobs`,
    datasetDeletion: (id) => `${prefix}dataset:${id}:deletion`,
    tidying: (id) => `${prefix}job:${id}:tidying`,
    // Hashed, so that what a client sends has no say in the length or the shape of a key.
    idempotency: (key, owner) => {
      const own = owner === null ? key : `${owner} ${key}`;
      return `${prefix}idempotency:${createHash('sha256').update(own).digest('hex')}`;
    },
    eventChannel: `${prefix}job-events`,
    machines: `${prefix}machines`,
    queuePrefix: `${prefix}queue`,
  };
}
