import type { DatasetId, JobId } from '@lorasmith/contracts';
import type { JobKeys } from '../keys.js';

/** Events kept of one job, about: at one step a second, the last five hours and a half. */
const MAX_EVENTS = 20_000;

/** The keys that every script about one job declares, in the order in which {@link RECORD_FUNCTIONS} takes them. */
export function recordKeys(keys: JobKeys, id: JobId, dataset: DatasetId): string[] {
  return [keys.job(id), keys.events(id), keys.activeOfDataset(dataset), ...keys.everyStatus, keys.reservedBytes];
}

/**
 * Lua functions over the keys of {@link recordKeys}: a record's status and its place in the sets change together, an
 * event is written together with what it tells of. An unfinished job has the bytes of its adapter reserved. `fullness`
 * says whether there are as many jobs as may be.
 */
export const RECORD_FUNCTIONS = `
local places = {queued = 4, preparing = 5, running = 6, succeeded = 7, failed = 8, cancelled = 9}
local ended = {succeeded = true, failed = true, cancelled = true}

local function move(id, to)
  local from = redis.call('HGET', KEYS[1], 'status')
  redis.call('HSET', KEYS[1], 'status', to)
  redis.call('ZREM', KEYS[places[from]], id)
  redis.call('ZADD', KEYS[places[to]], redis.call('HGET', KEYS[1], 'sequence'), id)
  if ended[to] then
    redis.call('SREM', KEYS[3], id)
    redis.call('HDEL', KEYS[10], id)
  end
end

local function reserve(id)
  local record = redis.call('HMGET', KEYS[1], 'adapter_bytes', 'owner')
  redis.call('HSET', KEYS[10], id, record[1] .. ':' .. (record[2] or ''))
end

local function append(id, channel, kind, data)
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ${MAX_EVENTS}, '*', 'type', kind, 'data', data)
  redis.call('PUBLISH', channel, id)
end

local function fullness(jobs_of_owner, most_waiting, most_of_owner)
  if most_waiting and redis.call('ZCARD', KEYS[places.queued]) >= most_waiting then return 'queue-full' end
  if not most_of_owner then return nil end
  local unfinished = 0
  for _, status in ipairs({'queued', 'preparing', 'running'}) do
    unfinished = unfinished + #redis.call('ZINTER', 2, jobs_of_owner, KEYS[places[status]])
  end
  if unfinished >= most_of_owner then return 'owner-full' end
end
`;
