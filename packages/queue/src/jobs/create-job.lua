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

local has_idempotency_key = idempotency_seconds ~= ''
if has_idempotency_key then
  local earlier = created_before(idempotency, 'job', request_hash)
  if earlier then return earlier end
end
local deleted = kind == 'train' and deleted_input(dataset_deletion, validation_deletion, initial_adapter_deletion)
if deleted then return deleted end
local exceeded = exceeded_limit(owner_jobs, tonumber(max_waiting), tonumber(max_of_owner), 1)
if exceeded then return exceeded end
if has_idempotency_key then
  redis.call('HSET', idempotency, 'job', id, 'hash', request_hash)
  redis.call('EXPIRE', idempotency, idempotency_seconds)
end
add_job(all_jobs, owner_jobs, search_facts, sequence_counter, facts, searched_name, searched_tags, unpack(rest))
return 'created'
