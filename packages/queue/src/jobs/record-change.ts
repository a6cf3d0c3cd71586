import type { JobFailure, JobStatus, NewJobEvent } from '@lorasmith/contracts';
import type { StoreDeps } from '../keys.js';
import { type JobWithInputs, jobScript } from './job-script.js';

const updateJobScript = jobScript(import.meta.url, './update-job.lua');

/** An atomic change of a record. */
export interface RecordChange {
  to?: JobStatus;
  /** True if a requested cancel forbids the change. */
  heedCancel?: boolean;
  /** True if a requested pause forbids the change. */
  heedPause?: boolean;
  fields?: [name: string, value: string][];
  event?: NewJobEvent;
  /** The number of the event among those of its attempt: if it is the last one, the change has been made. @defaultValue null: unknown */
  eventNumber?: number | null;
  /** Tokens that the job has read since the last change. @defaultValue 0 */
  usedTokens?: number;
  /** True for a job that returns to the queue after its time slice, and goes to the end of the line. @defaultValue false */
  hasHadSlice?: boolean;
  /** The rung at which a job that returns to the queue is paused, unless its rung was changed meanwhile. @defaultValue null */
  rungStep?: number | null;
  /** The seconds of training that remain to a job that returns to the queue. @defaultValue as before */
  seconds?: number | undefined;
}

export type RecordAnswer = 'done' | 'missing' | 'stale' | 'cancel-requested' | 'pause-requested' | JobStatus;

/**
 * Changes a record if its status is one of `from` and `token` is null or belongs to the newest attempt.
 * @returns `done`, or why nothing was changed; a status is the current one, which is not in `from`
 */
export async function changeRecord(
  deps: StoreDeps,
  job: JobWithInputs,
  token: string | null,
  from: readonly JobStatus[],
  {
    to,
    heedCancel,
    heedPause,
    fields = [],
    event,
    eventNumber = null,
    usedTokens = 0,
    hasHadSlice = false,
    rungStep = null,
    seconds,
  }: RecordChange,
): Promise<RecordAnswer> {
  const answer = await updateJobScript(
    deps,
    job,
    {},
    {
      attempt_token: token ?? '',
      allowed_statuses: from.join(),
      new_status: to ?? '',
      heed_cancel: heedCancel ? 'yes' : '',
      heed_pause: heedPause ? 'yes' : '',
      event_type: event?.type ?? '',
      event_data: event === undefined ? '' : JSON.stringify(event.data),
      event_number: eventNumber ?? '',
      used_tokens: usedTokens,
      had_slice: hasHadSlice ? 'yes' : '',
      rung_step: rungStep ?? '',
      seconds: seconds ?? '',
    },
    fields.flat(),
  );
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
