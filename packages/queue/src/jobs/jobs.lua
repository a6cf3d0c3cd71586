--- Records of jobs: created, changed and removed together with every set that names them.

--- @script
--- Writes a new record with its first event and adds it to every index, unless the idempotency key was used
--- before, a limit is reached, or a dataset or the initial adapter of a job that trains is being deleted.
---
--- `idempotency_seconds` is '' without an idempotency key; '' as a limit means no limit. `rest` has the fields
--- of the record and their values.
---
--- Returns `created`, `conflict`, `no-dataset`, `no-validation`, `no-initial-adapter`, `queue-full`,
--- `owner-full`, or the id of the job that an earlier request with the same idempotency key created.
--- @keys all_jobs sequence_counter owner_jobs search_facts dataset_deletion validation_deletion
--- @keys initial_adapter_deletion idempotency
--- @args kind request_hash idempotency_seconds max_waiting max_of_owner facts searched_name searched_tags
--- @include "includes/job"
--- @include "includes/admission"
local function create_job()
  local earlier = created_before(idempotency, idempotency_seconds, 'job', request_hash)
  if earlier then return earlier end
  local deleted = kind == 'train' and deleted_input(dataset_deletion, validation_deletion, initial_adapter_deletion)
  if deleted then return deleted end
  local exceeded = exceeded_limit(owner_jobs, tonumber(max_waiting), tonumber(max_of_owner), 1)
  if exceeded then return exceeded end
  remember_created(idempotency, idempotency_seconds, 'job', id, request_hash)
  add_job(all_jobs, owner_jobs, search_facts, sequence_counter, facts, searched_name, searched_tags, unpack(rest))
  return 'created'
end

--- @script
--- Assigns an unfinished job to the worker that received it from BullMQ. From here on only the new token may
--- write to the record; the token of the previous worker is stale. If it is sent again because its reply was
--- lost, it changes nothing.
---
--- `expected_resumes` is how often the job had been resumed when it was queued ('' for any). `worker` is JSON.
--- Returns the number of the attempt, or `missing`, `resumed` (the job has a newer queue entry), `cancelled` or
--- `paused` (a pending cancel or pause is now done), or the status of the job, which has ended or is paused.
--- @args token worker now expected_resumes
--- @include "includes/job"
local function start_attempt()
  local status, resumes, current_token, attempts =
    unpack(redis.call('HMGET', record, 'status', 'resumes', 'attempt_token', 'attempts'))
  if not status then return 'missing' end
  if current_token == token then return tonumber(attempts) end
  if expected_resumes ~= '' and resumes ~= expected_resumes then return 'resumed' end
  if is_ended[status] or status == 'paused' then return status end
  if redis.call('HEXISTS', record, 'cancel_requested_at') == 1 then
    move('cancelled')
    redis.call('HSET', record, 'ended_at', now)
    append_event('job-cancelled', '{}')
    return 'cancelled'
  end
  -- Its worker has died before it could pause the job.
  if redis.call('HEXISTS', record, 'pause_requested_at') == 1 then
    pause()
    return 'paused'
  end
  -- The worker of the attempt before has died, or was out of reach for too long, or the attempt would have been released.
  if status ~= 'queued' then redis.call('HINCRBY', record, 'deaths', 1) end
  move('preparing')
  charge(redis.call('HGET', record, 'owner') or '', tokens_of_start)
  local attempt = redis.call('HINCRBY', record, 'attempts', 1)
  redis.call('HSET', record, 'attempt_token', token)
  redis.call('HSETNX', record, 'started_at', now)
  redis.call('HDEL', record, 'publishing', 'starts_alone')
  -- How much time is left is known again after the first step. Decoded and encoded again, the numbers would be rounded.
  local progress = redis.call('HGET', record, 'progress')
  if progress then
    redis.call('HSET', record, 'progress', (progress:gsub('"seconds_left":[^,}]+', '"seconds_left":null')))
  end
  append_event('job-started', '{"attempt":' .. attempt .. ',"worker":' .. worker .. '}')
  return attempt
end

--- @script
--- Changes a record: its status, its fields, and the event that reports the change.
---
--- `attempt_token` is '' for any attempt; `allowed_statuses` are joined by commas; `new_status` is '' to keep the
--- status; a requested cancel prevents the change if `heed_cancel` is 'yes', a requested pause if `heed_pause`
--- is; `event_type` is '' for no event; `used_tokens` are counted as used by the key of the job. `event_number`
--- is that of the event among those of its attempt ('' for none), by which one that is sent again is recognized.
--- A job that returns to the queue goes to the end of its line if `had_slice` is 'yes', and `seconds` of it
--- remain ('' if that has not changed); if a pause was requested, or if its rung is at the step `rung_step` ('' for
--- none), it is paused instead. `rest` has fields and their values.
---
--- Returns `done`, `paused` (instead of returned to the queue), `missing`, `stale` (another attempt has the
--- job), `cancel-requested`, `pause-requested`, or the status that does not allow the change. A release or an
--- event that is repeated because its reply was lost is `done` again, and changes nothing.
--- @args attempt_token allowed_statuses new_status heed_cancel heed_pause event_type event_data event_number
--- @args used_tokens had_slice rung_step seconds
--- @include "includes/job"
--- @include "~/redis/includes/common"
local function update_job()
  local status, current_token = unpack(redis.call('HMGET', record, 'status', 'attempt_token'))
  if not status then return 'missing' end
  if attempt_token ~= '' and current_token ~= attempt_token then
    local is_released = redis.call('HGET', record, 'released_token') == attempt_token
    if status == new_status and is_released then return 'done' end
    if status == 'paused' and new_status == 'queued' and is_released then return 'paused' end
    return 'stale'
  end
  if not is_one_of(status, allowed_statuses) then return status end
  if heed_cancel == 'yes' and redis.call('HEXISTS', record, 'cancel_requested_at') == 1 then
    return 'cancel-requested'
  end
  if heed_pause == 'yes' and redis.call('HEXISTS', record, 'pause_requested_at') == 1 then return 'pause-requested' end
  if event_number ~= '' then
    local event = attempt_token .. ':' .. event_number
    if redis.call('HGET', record, 'last_event') == event then return 'done' end
    redis.call('HSET', record, 'last_event', event)
  end
  if #rest > 0 then redis.call('HSET', record, unpack(rest)) end
  if used_tokens ~= '0' then charge(redis.call('HGET', record, 'owner') or '', tonumber(used_tokens)) end
  -- Until the decision about it; if that came meanwhile, it continues.
  local is_at_rung = rung_step ~= '' and redis.call('HGET', record, 'hold_at_step') == rung_step
  if is_at_rung then redis.call('HSET', record, 'is_held', '1') end
  if new_status == 'queued' and (is_at_rung or redis.call('HEXISTS', record, 'pause_requested_at') == 1) then
    return_to_line(false, seconds)
    pause()
    return 'paused'
  end
  if new_status ~= '' and new_status ~= status then
    move(new_status)
    if new_status == 'queued' then return_to_line(had_slice == 'yes', seconds) end
  end
  if event_type ~= '' then append_event(event_type, event_data) end
  return 'done'
end

--- @script
--- Cancels a waiting or paused job at once, and requests a cancel of a running job from its worker. A worker that
--- takes the job at the same moment does so entirely before or after this script. `rung` is the step of the rung
--- that stops the job, '' for none.
---
--- Returns `cancelled` (by this call), `requested`, `publishing`, `ended` (before this call), or `missing`.
--- @args now rung
--- @include "includes/job"
local function request_cancel()
  local status = redis.call('HGET', record, 'status')
  if not status then return 'missing' end
  if is_ended[status] then return 'ended' end
  if status == 'queued' or status == 'paused' then
    move('cancelled')
    redis.call('HSET', record, 'ended_at', now)
    if rung ~= '' then redis.call('HSET', record, 'stopped_at_rung', rung) end
    append_event('job-cancelled', '{}')
    return 'cancelled'
  end
  if redis.call('HEXISTS', record, 'publishing') == 1 then return 'publishing' end
  local is_first = redis.call('HSETNX', record, 'cancel_requested_at', now) == 1
  if is_first and rung ~= '' then redis.call('HSET', record, 'stopped_at_rung', rung) end
  return 'requested'
end

--- @script
--- Pauses a waiting job at once, and requests a pause of a running job from its worker.
---
--- Returns `paused` (by this call, or before), `requested`, `cancelling`, `publishing`, `not-a-training`,
--- `ended`, or `missing`.
--- @args now
--- @include "includes/job"
local function request_pause()
  local status, kind = unpack(redis.call('HMGET', record, 'status', 'kind'))
  if not status then return 'missing' end
  if is_ended[status] then return 'ended' end
  if kind ~= 'train' then return 'not-a-training' end
  if status == 'paused' then return 'paused' end
  if status == 'queued' then
    pause()
    return 'paused'
  end
  if redis.call('HEXISTS', record, 'cancel_requested_at') == 1 then return 'cancelling' end
  if redis.call('HEXISTS', record, 'publishing') == 1 then return 'publishing' end
  redis.call('HSETNX', record, 'pause_requested_at', now)
  return 'requested'
end

--- @script
--- Queues a failed, cancelled or paused job again, unless a limit is reached, a dataset or the initial adapter of
--- a job that trains is being deleted, or the files of the job are being removed. Of two concurrent calls one
--- resumes the job and the other finds it queued. A pause that was requested and has not taken effect is
--- withdrawn. With `only_paused` 'yes', a job that has ended stays so.
---
--- '' as a limit means no limit. Returns `done`, `withdrawn`, `missing`, `in-cleanup`, `no-dataset`,
--- `no-validation`, `no-initial-adapter`, `queue-full`, `owner-full`, or the status that does not allow a resume.
--- @keys owner_jobs dataset_deletion validation_deletion initial_adapter_deletion cleanup
--- @args max_waiting max_of_owner only_paused
--- @include "includes/job"
--- @include "includes/admission"
local function resume_job()
  local status, kind = unpack(redis.call('HMGET', record, 'status', 'kind'))
  if not status then return 'missing' end
  if status == 'preparing' or status == 'running' then
    return redis.call('HDEL', record, 'pause_requested_at') == 1 and 'withdrawn' or status
  end
  if status == 'paused' then
    -- It has counted as unfinished all the time, and has kept what it reads.
    if tonumber(max_waiting) and redis.call('ZCARD', queued_jobs) >= tonumber(max_waiting) then return 'queue-full' end
    unpause()
    redis.call('HINCRBY', record, 'resumes', 1)
    append_event('job-resumed', '{}')
    return 'done'
  end
  if only_paused == 'yes' or (status ~= 'failed' and status ~= 'cancelled') then return status end
  if redis.call('EXISTS', cleanup) == 1 then return 'in-cleanup' end
  local deleted = kind == 'train' and deleted_input(dataset_deletion, validation_deletion, initial_adapter_deletion)
  if deleted then return deleted end
  local exceeded = exceeded_limit(owner_jobs, tonumber(max_waiting), tonumber(max_of_owner), 1)
  if exceeded then return exceeded end
  redis.call('ZREM', jobs_with[status], id)
  enter('queued')
  redis.call(
    'HDEL', record,
    'error', 'ended_at', 'cancel_requested_at', 'pause_requested_at', 'publishing', 'attempt_token', 'released_token',
    'starts_alone', 'deaths', 'hold_at_step', 'is_held', 'stopped_at_rung'
  )
  redis.call('HINCRBY', record, 'resumes', 1)
  append_event('job-resumed', '{}')
  return 'done'
end

--- @script
--- Changes fields of a job that do not affect it, together with what it is found by. `rest` has, for each, its
--- name, its value, and the value to find it by. A value of '' removes it.
---
--- Returns `done` or `missing`.
--- @keys record search_facts
--- @args id
local function change_details()
  if redis.call('HEXISTS', record, 'status') == 0 then return 'missing' end
  local function put(hash, field, value)
    if value == '' then redis.call('HDEL', hash, field) else redis.call('HSET', hash, field, value) end
  end
  for first = 1, #rest, 3 do
    put(record, rest[first], rest[first + 1])
    put(search_facts, id .. ':' .. rest[first], rest[first + 2])
  end
  return 'done'
end

--- @script
--- Returns the unfinished jobs that read the input. If there are none, no job can start to read it for `seconds`.
--- @keys input_jobs input_deletion
--- @args seconds
local function begin_deletion()
  local readers = redis.call('SMEMBERS', input_jobs)
  if #readers == 0 then redis.call('SET', input_deletion, '1', 'EX', seconds) end
  return readers
end

--- @script
--- Removes an ended job and its events. Returns `done`, `missing` or `active`.
--- @keys all_jobs owner_jobs search_facts idempotency
--- @include "includes/job"
local function delete_job()
  local status = redis.call('HGET', record, 'status')
  if not status then return 'missing' end
  if not is_ended[status] then return 'active' end
  redis.call('ZREM', jobs_with[status], id)
  redis.call('ZREM', all_jobs, id)
  redis.call('ZREM', owner_jobs, id)
  redis.call('ZREM', events_to_thin, id)
  redis.call('HDEL', search_facts, id, id .. ':name', id .. ':tags')
  redis.call('DEL', record, events)
  -- The idempotency key may have expired and created another job since.
  if redis.call('HGET', idempotency, 'job') == id then redis.call('DEL', idempotency) end
  return 'done'
end

--- @script
--- Starts a cleanup, unless the job has another status or a cleanup is running. The job cannot be resumed during
--- a cleanup, whose lease expires if the process dies. Returns 1, or 0 if no cleanup was started.
--- @keys record cleanup
--- @args allowed_statuses token lease_ms
--- @include "~/redis/includes/common"
local function start_cleanup()
  local status = redis.call('HGET', record, 'status')
  if not status or not is_one_of(status, allowed_statuses) then return 0 end
  if redis.call('SET', cleanup, token, 'NX', 'PX', lease_ms) then return 1 end
  return 0
end

--- @script
--- Returns the bytes reserved for an owner ('' for none) and for all owners, as decimal text.
--- @keys reserved_bytes
--- @args owner
local function read_reserved_bytes()
  local own, total = 0, 0
  for _, reserved in ipairs(redis.call('HVALS', reserved_bytes)) do
    local bytes, job_owner = string.match(reserved, '^(%d+):(.*)$')
    total = total + tonumber(bytes)
    if job_owner == owner then own = own + tonumber(bytes) end
  end
  return {string.format('%.0f', own), string.format('%.0f', total)}
end
