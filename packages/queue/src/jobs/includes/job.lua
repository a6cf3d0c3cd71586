--- Changes of one job. Its status changes together with the sets that index jobs by status, and an event is written together with the
--- change that it reports. While a job is unfinished, the bytes of its adapter are reserved; once it has ended, its events are to be
--- thinned. While it is not paused either, the queue has an entry for it. Its end is written together with the webhooks that report it, and
--- with the deliveries that are to follow.
---
--- `now_ms` is '' for the time of Redis.
--- @keys record events events_to_thin dataset_jobs validation_jobs initial_adapter_jobs
--- @keys queued_jobs preparing_jobs running_jobs paused_jobs succeeded_jobs failed_jobs cancelled_jobs
--- @keys reserved_bytes queue_targets key_served job_deliveries
--- @args id now_ms least_thinned
--- @include "~/redis/includes/common"

if now_ms == '' then now_ms = string.format('%.0f', server_time_ms()) end

--- @include "~/events/includes/report"
--- @include "~/queue/includes/line"

local jobs_with = {
  queued = queued_jobs, preparing = preparing_jobs, running = running_jobs, paused = paused_jobs,
  succeeded = succeeded_jobs, failed = failed_jobs, cancelled = cancelled_jobs,
}
local is_ended = {succeeded = true, failed = true, cancelled = true}

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

-- Removes an ended job from what unfinished jobs are in. Its events are thinned later, if they are many.
local function settle()
  redis.call('SREM', dataset_jobs, id)
  redis.call('SREM', validation_jobs, id)
  redis.call('SREM', initial_adapter_jobs, id)
  redis.call('HDEL', reserved_bytes, id)
  redis.call('HDEL', record, 'paused_entry')
  if redis.call('XLEN', events) >= tonumber(least_thinned) then redis.call('ZADD', events_to_thin, now_ms, id) end
end

-- Changes the status of a job, and moves it from index to index.
local function move(status)
  local before, sequence, owner = unpack(redis.call('HMGET', record, 'status', 'sequence', 'owner'))
  local key = owner or ''
  redis.call('HSET', record, 'status', status)
  redis.call('ZREM', jobs_with[before], id)
  redis.call('ZADD', jobs_with[status], sequence, id)
  redis.call('HDEL', queue_targets, id)
  if is_ended[status] then settle() end
  if before ~= 'paused' and (is_ended[status] or status == 'paused') then leave_queue(key) end
  local was_leased = before == 'preparing' or before == 'running'
  local is_released = is_ended[status] or status == 'queued' or status == 'paused'
  if was_leased and is_released then redis.call('HSET', key_served, key, now_ms) end
end

-- Writes what the queue must know of a job that a worker returns. A job that was paused goes to the end of the line.
local function return_to_line(had_slice, seconds)
  local entry = cjson.decode(redis.call('HGET', queue_entries, id))
  entry.starts_alone = redis.call('HGET', record, 'starts_alone') == '1' or nil
  entry.done = share_done()
  if seconds ~= '' then entry.seconds = tonumber(seconds) end
  if had_slice then return join_line(entry, 0) end
  write_entry(cjson.encode(entry))
end

local webhook_types = {
  ['adapter-published'] = 'job.succeeded', ['job-failed'] = 'job.failed', ['job-cancelled'] = 'job.cancelled',
}

-- Appends an event of the job, with the webhooks and the deliveries if it reports the end.
local function append_event(event_type, data)
  local event_id = add_event(events, id, event_type, data)
  local webhook_type = webhook_types[event_type]
  if not webhook_type then return end
  local spec, owner, kind, name, own_url, deliver =
    unpack(redis.call('HMGET', record, 'spec', 'owner', 'kind', 'name', 'webhook_url', 'deliver'))
  if deliver and event_type == 'adapter-published' then
    local asked = {owner = owner or '', url = own_url or '', data = data, deliver = deliver}
    redis.call('HSET', job_deliveries, id, cjson.encode(asked))
  end
  add_webhooks('job', id, event_id, own_url or nil, {
    type = webhook_type, job = id, kind = kind, owner = owner or '', data = data, spec = spec, name = name or nil,
  })
end

-- Takes an unfinished job out of the queue. The record keeps its entry, with its position in the line of its key. No attempt has
-- the job after that.
local function pause()
  redis.call('HSET', record, 'paused_entry', redis.call('HGET', queue_entries, id), 'attempt_token', '')
  redis.call('HDEL', record, 'pause_requested_at')
  move('paused')
  append_event('job-paused', '{}')
end

-- Returns a paused job to its position in the queue.
local function unpause()
  local entry = cjson.decode(redis.call('HGET', record, 'paused_entry'))
  entry.queued_at = tonumber(now_ms)
  redis.call('HDEL', record, 'paused_entry', 'is_held')
  move('queued')
  enter_queue(entry.key)
  write_entry(cjson.encode(entry))
end
