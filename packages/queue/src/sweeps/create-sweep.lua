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

local has_idempotency_key = idempotency_seconds ~= ''
if has_idempotency_key then
  local earlier = created_before(idempotency, 'sweep', request_hash)
  if earlier then return earlier end
end
local deleted = deleted_input(dataset_deletion, validation_deletion, initial_adapter_deletion)
if deleted then return deleted end
local jobs = tonumber(job_count)
local exceeded = exceeded_limit(owner_jobs, tonumber(max_waiting), tonumber(max_of_owner), jobs)
if exceeded then return exceeded end
if has_idempotency_key then
  redis.call('HSET', idempotency, 'sweep', sweep_id, 'hash', request_hash)
  redis.call('EXPIRE', idempotency, idempotency_seconds)
end
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
