import type { AdapterId, DatasetId, JobId } from '@lorasmith/contracts';
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
export function jobScript(module: string, file: string): JobScript {
  const script = luaScript(module, file);
  return ({ redis, keys, clock }, job, ownKeys, ownArguments, rest, restKeys) => {
    const named = Object.entries(RECORD_KEYS).map(([name, keyOf]) => [name, keyOf(keys, job)]);
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
