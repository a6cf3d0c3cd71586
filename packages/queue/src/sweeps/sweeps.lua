--- Records of sweeps, and what is wanted and decided of each.

--- @script
--- Writes the record of a sweep and those of all its jobs, or nothing: if the idempotency key was used before, a
--- limit would be exceeded, or something that the jobs read is being deleted. The jobs read the same, so the keys
--- of the first one are those of all.
---
--- `idempotency_seconds` is '' without an idempotency key; '' as a limit means no limit. `rest` has
--- `sweep_fields` fields and values of the sweep, then for each of `job_count` jobs its id, what it is found by
--- (facts, name and tags), the number of its fields and values, and these; `rest_keys` the record and the events
--- of each job.
---
--- Returns `created`, `conflict`, `no-dataset`, `no-validation`, `no-initial-adapter`, `queue-full`,
--- `owner-full`, or the id of the sweep that an earlier request with the same idempotency key created.
--- @keys all_jobs sequence_counter owner_jobs search_facts dataset_deletion validation_deletion
--- @keys initial_adapter_deletion idempotency sweep sweep_events all_sweeps owner_sweeps active_sweeps
--- @args sweep_id sweep_fields job_count request_hash idempotency_seconds max_waiting max_of_owner
--- @include "~/jobs/includes/job"
--- @include "~/jobs/includes/admission"
local function create_sweep()
  local earlier = created_before(idempotency, idempotency_seconds, 'sweep', request_hash)
  if earlier then return earlier end
  local deleted = deleted_input(dataset_deletion, validation_deletion, initial_adapter_deletion)
  if deleted then return deleted end
  local jobs = tonumber(job_count)
  local exceeded = exceeded_limit(owner_jobs, tonumber(max_waiting), tonumber(max_of_owner), jobs)
  if exceeded then return exceeded end
  remember_created(idempotency, idempotency_seconds, 'sweep', sweep_id, request_hash)
  local position = tonumber(sweep_fields)
  local sweep_sequence = redis.call('INCR', sequence_counter)
  redis.call('HSET', sweep, 'sequence', sweep_sequence, unpack(rest, 1, position))
  redis.call('ZADD', all_sweeps, sweep_sequence, sweep_id)
  redis.call('ZADD', owner_sweeps, sweep_sequence, sweep_id)
  redis.call('SADD', active_sweeps, sweep_id)
  add_event(sweep_events, sweep_id, 'sweep-queued', '{}')
  for number = 1, jobs do
    -- The functions of a script act on the job that these name.
    record, events, id = rest_keys[2 * number - 1], rest_keys[2 * number], rest[position + 1]
    local facts, name, tags = rest[position + 2], rest[position + 3], rest[position + 4]
    local last = position + 5 + tonumber(rest[position + 5])
    add_job(all_jobs, owner_jobs, search_facts, sequence_counter, facts, name, tags, unpack(rest, position + 6, last))
    position = last
  end
  return 'created'
end

--- @script
--- Records what the user wants of a sweep: `run`, `pause` or `cancel`. It is unsettled until all jobs have been
--- asked. A cancel is not taken back.
---
--- Returns `done`, `missing`, `ended` or `cancelling`.
--- @args wanted
--- @include "includes/sweep-reports"
local function want_sweep()
  local before = redis.call('HGET', sweep, 'wanted')
  if not before then return 'missing' end
  if redis.call('HEXISTS', sweep, 'outcome') == 1 then return 'ended' end
  if before == 'cancel' and wanted ~= 'cancel' then return 'cancelling' end
  redis.call('HSET', sweep, 'wanted', wanted, 'is_settled', '0')
  local event_types = {pause = 'sweep-paused', run = 'sweep-resumed'}
  if wanted ~= before and event_types[wanted] then add_event(events, id, event_types[wanted], '{}') end
  return 'done'
end

--- @script
--- Records that all jobs have been asked for what is wanted. If something else is wanted by now, some may have
--- been asked for the old after the new: all are asked again.
--- @keys sweep
--- @args wanted
local function settle_sweep()
  local now = redis.call('HGET', sweep, 'wanted')
  if not now or redis.call('HEXISTS', sweep, 'outcome') == 1 then return 0 end
  redis.call('HSET', sweep, 'is_settled', now == wanted and '1' or '0')
  return 1
end

--- @script
--- Writes a field of a sweep once, with the event that reports it, and with the webhooks of its end if
--- `webhook_type` is not ''. Whoever comes later finds the first value. Once the sweep has its outcome, nothing
--- else is written. If `delivered_job` is not '', the deliveries `deliver` of its adapter are to follow. Returns the
--- value; nil if there is none.
--- @keys job_deliveries
--- @args field value event_type event_data webhook_type delivered_job deliver
--- @include "includes/sweep-reports"
local function decide_sweep()
  if redis.call('EXISTS', sweep) == 0 then return nil end
  local before = redis.call('HGET', sweep, field)
  if before then return before end
  if redis.call('HEXISTS', sweep, 'outcome') == 1 then return nil end
  redis.call('HSET', sweep, field, value)
  local event_id = add_event(events, id, event_type, event_data)
  local request, owner, own_url = unpack(redis.call('HMGET', sweep, 'request', 'owner', 'webhook_url'))
  if delivered_job ~= '' then
    local asked = {owner = owner or '', url = own_url or '', data = event_data, deliver = deliver}
    redis.call('HSET', job_deliveries, delivered_job, cjson.encode(asked))
  end
  if webhook_type ~= '' then
    add_webhooks('sweep', id, event_id, own_url or nil, {
      type = webhook_type, sweep = id, owner = owner or '', data = event_data, request = request,
    })
  end
  return value
end

--- @script
--- Lets a job of a sweep that is paused at its rung continue, to the next one ('' for its end), unless something else
--- than its running is wanted of the sweep. Once done, it changes nothing: the job then has another rung.
---
--- Returns `queued`, `waiting` (it is not wanted to run), `moved` (it is not paused at this rung) or `missing`.
--- @keys sweep
--- @args from_step next_step
--- @include "~/jobs/includes/job"
local function continue_from_rung()
  local status, step, is_at_rung = unpack(redis.call('HMGET', record, 'status', 'hold_at_step', 'is_held'))
  if not status then return 'missing' end
  if status ~= 'paused' or not is_at_rung or step ~= from_step then return 'moved' end
  if redis.call('HGET', sweep, 'wanted') ~= 'run' then return 'waiting' end
  if next_step == '' then
    redis.call('HDEL', record, 'hold_at_step')
  else
    redis.call('HSET', record, 'hold_at_step', next_step)
  end
  unpause()
  redis.call('HINCRBY', record, 'resumes', 1)
  append_event('job-resumed', '{}')
  return 'queued'
end

--- @script
--- Removes the record of a sweep that has ended. Returns `done`, `missing` or `active`.
--- @keys sweep events all_sweeps owner_sweeps active_sweeps idempotency
--- @args id
local function delete_sweep()
  if redis.call('EXISTS', sweep) == 0 then return 'missing' end
  if redis.call('SISMEMBER', active_sweeps, id) == 1 then return 'active' end
  redis.call('ZREM', all_sweeps, id)
  redis.call('ZREM', owner_sweeps, id)
  redis.call('DEL', sweep, events)
  -- The idempotency key may have expired and created another sweep since.
  if redis.call('HGET', idempotency, 'sweep') == id then redis.call('DEL', idempotency) end
  return 'done'
end
