import type { DatasetId, JobId, JobStatus } from '@lorasmith/contracts';
import type { JobKeys } from '../keys.js';
import type { LuaSource } from './lua-script.js';

/** Approximate maximum of stored events per job: at one step a second, the last five and a half hours. */
const MAX_EVENTS = 20_000;

type RecordKey = 'record' | 'events' | 'dataset_jobs' | `${JobStatus}_jobs` | 'reserved_bytes';

/** The keys of {@link RECORD_PART} for one job. */
export function recordKeys(keys: JobKeys, id: JobId, dataset: DatasetId): Record<RecordKey, string> {
  return {
    record: keys.job(id),
    events: keys.events(id),
    dataset_jobs: keys.activeOfDataset(dataset),
    queued_jobs: keys.withStatus('queued'),
    preparing_jobs: keys.withStatus('preparing'),
    running_jobs: keys.withStatus('running'),
    succeeded_jobs: keys.withStatus('succeeded'),
    failed_jobs: keys.withStatus('failed'),
    cancelled_jobs: keys.withStatus('cancelled'),
    reserved_bytes: keys.reservedBytes,
  };
}

/**
 * Functions for every script that changes one job. The status changes together with the sets that index jobs by status,
 * and an event is written together with the change that it reports. While a job is unfinished, the bytes of its adapter
 * are reserved.
 */
export const RECORD_PART: LuaSource<RecordKey, 'id' | 'event_channel'> = {
  keys: [
    'record',
    'events',
    'dataset_jobs',
    'queued_jobs',
    'preparing_jobs',
    'running_jobs',
    'succeeded_jobs',
    'failed_jobs',
    'cancelled_jobs',
    'reserved_bytes',
  ],
  arguments: ['id', 'event_channel'],
  lua: `
local jobs_with = {
  queued = queued_jobs, preparing = preparing_jobs, running = running_jobs,
  succeeded = succeeded_jobs, failed = failed_jobs, cancelled = cancelled_jobs,
}
local is_ended = {succeeded = true, failed = true, cancelled = true}

-- Adds an unfinished job to its indexes.
local function enter(status)
  local sequence, bytes, owner = unpack(redis.call('HMGET', record, 'sequence', 'adapter_bytes', 'owner'))
  redis.call('HSET', record, 'status', status)
  redis.call('ZADD', jobs_with[status], sequence, id)
  redis.call('SADD', dataset_jobs, id)
  redis.call('HSET', reserved_bytes, id, bytes .. ':' .. (owner or ''))
end

local function move(status)
  local before, sequence = unpack(redis.call('HMGET', record, 'status', 'sequence'))
  redis.call('HSET', record, 'status', status)
  redis.call('ZREM', jobs_with[before], id)
  redis.call('ZADD', jobs_with[status], sequence, id)
  if is_ended[status] then
    redis.call('SREM', dataset_jobs, id)
    redis.call('HDEL', reserved_bytes, id)
  end
end

local function append_event(event_type, data)
  redis.call('XADD', events, 'MAXLEN', '~', ${MAX_EVENTS}, '*', 'type', event_type, 'data', data)
  redis.call('PUBLISH', event_channel, id)
end

-- The limit that another unfinished job would exceed, if any. A limit of nil means no limit.
local function exceeded_limit(owner_jobs, max_waiting, max_of_owner)
  if max_waiting and redis.call('ZCARD', queued_jobs) >= max_waiting then return 'queue-full' end
  if not max_of_owner then return nil end
  local unfinished = 0
  for _, status in ipairs({'queued', 'preparing', 'running'}) do
    unfinished = unfinished + #redis.call('ZINTER', 2, owner_jobs, jobs_with[status])
  end
  if unfinished >= max_of_owner then return 'owner-full' end
end
`,
};
