import { REPORT_FUNCTIONS } from '../events/report-functions.js';
import { MIN_EVENTS } from '../events/thinned-events.js';
import { ENTRY_FUNCTIONS } from '../queue/entry-functions.js';

/**
 * Tokens that each start of a job counts for, besides those that it trains: a key whose jobs fail before their first step
 * uses the machine, too.
 */
const TOKENS_OF_START = 1_000;

/**
 * Lua functions for every script that changes one job. The status changes together with the sets that index jobs by status,
 * and an event is written together with the change that it reports. While a job is unfinished, the bytes of its adapter
 * are reserved; once it has ended, its events are to be thinned. While it is not paused either, the queue has an entry for it (see
 * QueueEntry). The end of a job is written together with the webhooks that report it.
 */
export const RECORD_FUNCTIONS = /* lua */ `
local tokens_of_start = ${TOKENS_OF_START}

if now_ms == '' then
  local time = redis.call('TIME')
  now_ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
end
${REPORT_FUNCTIONS}${ENTRY_FUNCTIONS}
local jobs_with = {
  queued = queued_jobs, preparing = preparing_jobs, running = running_jobs, paused = paused_jobs,
  succeeded = succeeded_jobs, failed = failed_jobs, cancelled = cancelled_jobs,
}
local is_ended = {succeeded = true, failed = true, cancelled = true}

-- Counts tokens as used by a key.
local function charge(key, tokens)
  local weight = tonumber(redis.call('HGET', key_weights, key)) or 1
  redis.call('HINCRBYFLOAT', key_used, key, string.format('%.6f', tokens / weight))
end

-- A key gets no credit for the time in which it had no jobs: it counts as having used what the key that has used least has, or
-- what the last one had used when all jobs had ended.
local function wake_key(key)
  local least, least_text
  for _, other in ipairs(redis.call('HKEYS', key_jobs)) do
    local text = redis.call('HGET', key_used, other) or '0'
    if other ~= key and (not least or tonumber(text) < least) then
      least, least_text = tonumber(text), text
    end
  end
  if not least then
    least_text = redis.call('GET', key_clock) or '0'
    least = tonumber(least_text)
  end
  local own = tonumber(redis.call('HGET', key_used, key)) or 0
  if least > own then redis.call('HSET', key_used, key, least_text) end
end

-- Puts the job into the line of its key, so many places before its end.
local function join_line(entry, places_ahead)
  entry.place = redis.call('HINCRBY', key_places, entry.key, 1) - places_ahead
  entry.queued_at = tonumber(now_ms)
  write_entry(cjson.encode(entry))
end

-- Counts a job whose entry is added to the queue.
local function enter_queue(key)
  if redis.call('HINCRBY', key_jobs, key, 1) == 1 then wake_key(key) end
end

-- Removes the entry of the job from the queue.
local function leave_queue(key)
  write_entry('')
  if redis.call('HINCRBY', key_jobs, key, -1) > 0 then return end
  redis.call('HDEL', key_jobs, key)
  if redis.call('EXISTS', key_jobs) == 0 then
    redis.call('SET', key_clock, redis.call('HGET', key_used, key) or '0')
  end
end

-- The share of its steps that a job does not train again, which its newest checkpoint has; nil without one.
local function share_done()
  local progress, checkpoints = unpack(redis.call('HMGET', record, 'progress', 'checkpoints'))
  local newest = progress and checkpoints and cjson.decode(checkpoints)[1]
  return newest and math.min(1, newest.step / cjson.decode(progress).total_steps) or nil
end

-- Adds an unfinished job to its indexes.
local function enter(status)
  local sequence, bytes, owner, facts =
    unpack(redis.call('HMGET', record, 'sequence', 'adapter_bytes', 'owner', 'queue_facts'))
  redis.call('HSET', record, 'status', status)
  redis.call('ZADD', jobs_with[status], sequence, id)
  redis.call('ZREM', events_to_thin, id)
  redis.call('SADD', dataset_jobs, id)
  redis.call('SADD', validation_jobs, id)
  redis.call('SADD', initial_adapter_jobs, id)
  redis.call('HSET', reserved_bytes, id, bytes .. ':' .. (owner or ''))
  local entry = cjson.decode(facts)
  entry.key = owner or ''
  entry.done = share_done()
  if entry.done and type(entry.seconds) == 'number' then entry.seconds = entry.seconds * (1 - entry.done) end
  enter_queue(entry.key)
  join_line(entry, entry.ahead)
end

local function move(status)
  local before, sequence, owner = unpack(redis.call('HMGET', record, 'status', 'sequence', 'owner'))
  local key = owner or ''
  redis.call('HSET', record, 'status', status)
  redis.call('ZREM', jobs_with[before], id)
  redis.call('ZADD', jobs_with[status], sequence, id)
  redis.call('HDEL', queue_targets, id)
  if is_ended[status] then
    redis.call('SREM', dataset_jobs, id)
    redis.call('SREM', validation_jobs, id)
    redis.call('SREM', initial_adapter_jobs, id)
    redis.call('HDEL', reserved_bytes, id)
    redis.call('HDEL', record, 'paused_entry')
    if redis.call('XLEN', events) >= ${MIN_EVENTS} then redis.call('ZADD', events_to_thin, now_ms, id) end
  end
  if before ~= 'paused' and (is_ended[status] or status == 'paused') then leave_queue(key) end
  local was_held = before == 'preparing' or before == 'running'
  local is_released = is_ended[status] or status == 'queued' or status == 'paused'
  if was_held and is_released then redis.call('HSET', key_served, key, now_ms) end
end

-- What the queue must know of a job that a worker returns. A job that was paused goes to the end of the line.
local function return_to_line(is_paused, seconds)
  local entry = cjson.decode(redis.call('HGET', queue_entries, id))
  entry.starts_alone = redis.call('HGET', record, 'starts_alone') == '1' or nil
  entry.done = share_done()
  if seconds ~= '' then entry.seconds = tonumber(seconds) end
  if is_paused then return join_line(entry, 0) end
  write_entry(cjson.encode(entry))
end

local webhook_types = {
  ['adapter-published'] = 'job.succeeded', ['job-failed'] = 'job.failed', ['job-cancelled'] = 'job.cancelled',
}

local function append_event(event_type, data)
  local event_id = add_event(events, id, event_type, data)
  local webhook_type = webhook_types[event_type]
  if not webhook_type then return end
  local spec, owner, kind, name, own_url =
    unpack(redis.call('HMGET', record, 'spec', 'owner', 'kind', 'name', 'webhook_url'))
  add_webhooks('job', id, event_id, own_url or nil, {
    type = webhook_type, job = id, kind = kind, owner = owner or '', data = data, spec = spec, name = name or nil,
  })
end

-- Takes an unfinished job out of the queue. The record keeps its entry, with its place in the line of its key. No attempt holds
-- the job after that.
local function pause()
  redis.call('HSET', record, 'paused_entry', redis.call('HGET', queue_entries, id), 'attempt_token', '')
  redis.call('HDEL', record, 'pause_requested_at')
  move('paused')
  append_event('job-paused', '{}')
end

-- Returns a paused job to its place in the queue.
local function unpause()
  local entry = cjson.decode(redis.call('HGET', record, 'paused_entry'))
  entry.queued_at = tonumber(now_ms)
  redis.call('HDEL', record, 'paused_entry', 'is_held')
  move('queued')
  enter_queue(entry.key)
  write_entry(cjson.encode(entry))
end

-- What an earlier request with an idempotency key created, or 'conflict' if it was another request; nil if there was none.
local function created_before(idempotency, created, request_hash)
  local earlier, hash = unpack(redis.call('HMGET', idempotency, created, 'hash'))
  if not earlier then return nil end
  return hash == request_hash and earlier or 'conflict'
end

-- What the job reads that is being deleted, if anything is. The keys say so.
local function deleted_input(dataset_deletion, validation_deletion, initial_adapter_deletion)
  if redis.call('EXISTS', dataset_deletion) == 1 then return 'no-dataset' end
  if redis.call('EXISTS', validation_deletion) == 1 then return 'no-validation' end
  if redis.call('EXISTS', initial_adapter_deletion) == 1 then return 'no-initial-adapter' end
end

-- Writes the record of a new job with its first event, and adds it to every index. The facts, the name and the tags are those that it is found by;
-- the fields and their values follow.
local function add_job(all_jobs, owner_jobs, search_facts, sequence_counter, facts, name, tags, ...)
  local sequence = redis.call('INCR', sequence_counter)
  redis.call('HSET', record, 'sequence', sequence, 'attempts', 0, 'resumes', 0, ...)
  redis.call('ZADD', all_jobs, sequence, id)
  redis.call('ZADD', owner_jobs, sequence, id)
  redis.call('HSET', search_facts, id, facts)
  if name ~= '' then redis.call('HSET', search_facts, id .. ':name', name) end
  if tags ~= '' then redis.call('HSET', search_facts, id .. ':tags', tags) end
  enter('queued')
  append_event('job-queued', '{}')
end

-- The limit that so many further unfinished jobs would exceed, if any. A limit of nil means no limit.
local function exceeded_limit(owner_jobs, max_waiting, max_of_owner, added)
  if max_waiting and redis.call('ZCARD', queued_jobs) + added > max_waiting then return 'queue-full' end
  if not max_of_owner then return nil end
  local unfinished = 0
  for _, status in ipairs({'queued', 'preparing', 'running', 'paused'}) do
    unfinished = unfinished + #redis.call('ZINTER', 2, owner_jobs, jobs_with[status])
  end
  if unfinished + added > max_of_owner then return 'owner-full' end
end
`;
