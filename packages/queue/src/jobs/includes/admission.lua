--- What admits a new job, or one that is resumed. The locals of "job" are read.

-- Finds what an earlier request with an idempotency key created: 'conflict' if it was another request; nil if there was none, or if the
-- request has no key, whose seconds are ''.
local function created_before(idempotency, seconds, created, request_hash)
  if seconds == '' then return nil end
  local earlier, hash = unpack(redis.call('HMGET', idempotency, created, 'hash'))
  if not earlier then return nil end
  return hash == request_hash and earlier or 'conflict'
end

-- Remembers for created_before what a request with an idempotency key creates.
local function remember_created(idempotency, seconds, created, created_id, request_hash)
  if seconds == '' then return end
  redis.call('HSET', idempotency, created, created_id, 'hash', request_hash)
  redis.call('EXPIRE', idempotency, seconds)
end

-- Names what the job reads that is being deleted, if anything is. The keys say so.
local function deleted_input(dataset_deletion, validation_deletion, initial_adapter_deletion)
  if redis.call('EXISTS', dataset_deletion) == 1 then return 'no-dataset' end
  if redis.call('EXISTS', validation_deletion) == 1 then return 'no-validation' end
  if redis.call('EXISTS', initial_adapter_deletion) == 1 then return 'no-initial-adapter' end
end

-- Names the limit that `added` further unfinished jobs would exceed, if any. A limit of nil means no limit.
local function exceeded_limit(owner_jobs, max_waiting, max_of_owner, added)
  if max_waiting and redis.call('ZCARD', queued_jobs) + added > max_waiting then return 'queue-full' end
  if not max_of_owner then return nil end
  local unfinished = 0
  for _, status in ipairs({'queued', 'preparing', 'running', 'paused'}) do
    unfinished = unfinished + #redis.call('ZINTER', 2, owner_jobs, jobs_with[status])
  end
  if unfinished + added > max_of_owner then return 'owner-full' end
end

-- Writes the record of a new job with its first event, and adds it to every index. The facts, the name and the tags are those that it
-- is found by; the fields and their values follow.
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
