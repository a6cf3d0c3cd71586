import type { AdapterId, DatasetId, JobFailure, JobId, JobStatus, NewJobEvent } from '@lorasmith/contracts';
import { MAX_EVENTS } from '../events/event-stream.js';
import { MIN_EVENTS } from '../events/thinned-events.js';
import type { JobKeys, StoreDeps } from '../keys.js';
import { luaScript } from '../redis/lua-script.js';

/** A job, and the inputs that it reads while it is unfinished. */
export interface JobWithInputs {
  id: JobId;
  dataset: DatasetId;
  validation: { dataset: DatasetId | null };
  lora: { init_from: AdapterId | null };
}

/** The inputs of a job, for keys that must be named: the dataset again if it evaluates on no other, or begins from no adapter. */
export function inputsOf({ dataset, validation, lora }: Omit<JobWithInputs, 'id'>) {
  return { dataset, validation: validation.dataset ?? dataset, initialAdapter: lora.init_from ?? dataset };
}

/** The keys of `includes/job.lua` and what it includes, for one job. */
const RECORD_KEYS = {
  record: (keys, { id }) => keys.job(id),
  events: (keys, { id }) => keys.events(id),
  events_to_thin: (keys) => keys.eventsToThin,
  dataset_jobs: (keys, job) => keys.activeOfInput(inputsOf(job).dataset),
  validation_jobs: (keys, job) => keys.activeOfInput(inputsOf(job).validation),
  initial_adapter_jobs: (keys, job) => keys.activeOfInput(inputsOf(job).initialAdapter),
  queued_jobs: (keys) => keys.withStatus('queued'),
  preparing_jobs: (keys) => keys.withStatus('preparing'),
  running_jobs: (keys) => keys.withStatus('running'),
  paused_jobs: (keys) => keys.withStatus('paused'),
  succeeded_jobs: (keys) => keys.withStatus('succeeded'),
  failed_jobs: (keys) => keys.withStatus('failed'),
  cancelled_jobs: (keys) => keys.withStatus('cancelled'),
  reserved_bytes: (keys) => keys.reservedBytes,
  queue_entries: (keys) => keys.queueEntries,
  queue_changes: (keys) => keys.queueChanges,
  queue_targets: (keys) => keys.queueTargets,
  key_jobs: (keys) => keys.keyJobs,
  key_positions: (keys) => keys.keyPositions,
  key_used: (keys) => keys.keyUsed,
  key_served: (keys) => keys.keyServed,
  key_weights: (keys) => keys.keyWeights,
  key_clock: (keys) => keys.keyClock,
  webhooks_due: (keys) => keys.webhooksDue,
  webhook_messages: (keys) => keys.webhookMessages,
  webhook_for_all: (keys) => keys.webhookForAll,
  job_deliveries: (keys) => keys.jobDeliveries,
} satisfies Record<string, (keys: JobKeys, job: JobWithInputs) => string>;

/** A script that changes one job, with its own keys and arguments. `rest` and `restKeys` are the tables `rest` and `rest_keys` in the script. */
type JobScript = (
  deps: StoreDeps,
  job: JobWithInputs,
  keys: Readonly<Record<string, string>>,
  args: Readonly<Record<string, string | number>>,
  rest?: readonly (string | number)[],
  restKeys?: readonly string[],
) => Promise<unknown>;

/** Loads a script that changes one job: it includes `includes/job.lua`, whose keys and arguments callers do not name. */
export function jobScript(module: string, file: string, name: string): JobScript {
  const script = luaScript(module, file, name);
  return ({ redis, keys, clock }, job, ownKeys, ownArguments, rest, restKeys) => {
    const named = Object.entries(RECORD_KEYS).map(([key, keyOf]) => [key, keyOf(keys, job)]);
    const recordKeys = Object.fromEntries(named) as Record<string, string>;
    const common = {
      id: job.id,
      event_channel: keys.eventChannel,
      now_ms: clock?.() ?? '',
      max_events: MAX_EVENTS,
      least_thinned: MIN_EVENTS,
    };
    return script(redis, { ...recordKeys, ...ownKeys }, { ...common, ...ownArguments }, rest, restKeys);
  };
}

const updateJobScript = jobScript(import.meta.url, './jobs.lua', 'update_job');

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

type RecordAnswer = 'done' | 'missing' | 'stale' | 'cancel-requested' | 'pause-requested' | JobStatus;

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
