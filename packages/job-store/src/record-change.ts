import type { DatasetId, JobFailure, JobId, JobStatus, NewJobEvent } from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import type { JobKeys } from './keys.js';
import { recordKeys } from './scripts/record-keys.js';
import { updateJobScript } from './scripts/update-job.js';

/** What changes in a record, all of it or none. */
export interface RecordChange {
  to?: JobStatus;
  /** Changes nothing where the user wants the job cancelled. */
  heedCancel?: boolean;
  fields?: [name: string, value: string][];
  event?: NewJobEvent;
}

export type RecordAnswer = 'done' | 'missing' | 'stale' | 'cancel-requested' | JobStatus;

/**
 * Changes a record if it has one of the statuses `from`, and if `token` (where not null) is that of its newest attempt.
 * Answers what hindered it: a status is one that is not among `from`.
 */
export async function changeRecord(
  { redis, keys }: { redis: Redis; keys: JobKeys },
  job: { id: JobId; dataset: DatasetId },
  token: string | null,
  from: readonly JobStatus[],
  { to, heedCancel, fields = [], event }: RecordChange,
): Promise<RecordAnswer> {
  const answer = await updateJobScript(redis, recordKeys(keys, job.id, job.dataset), [
    job.id,
    keys.eventChannel,
    token ?? '',
    from.join(),
    to ?? '',
    heedCancel ? 'heed-cancel' : '',
    fields.length,
    ...fields.flat(),
    ...(event ? [event.type, JSON.stringify(event.data)] : []),
  ]);
  return answer as RecordAnswer;
}

export function failed(error: JobFailure): RecordChange {
  return {
    to: 'failed',
    fields: [
      ['error', JSON.stringify(error)],
      ['ended_at', new Date().toISOString()],
    ],
    event: { type: 'job-failed', data: { error } },
  };
}

export function cancelled(): RecordChange {
  return {
    to: 'cancelled',
    fields: [['ended_at', new Date().toISOString()]],
    event: { type: 'job-cancelled', data: {} },
  };
}
