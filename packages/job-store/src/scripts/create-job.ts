import { jobScript } from './job-script.js';

/**
 * Writes a new record with its first event and adds it to every index, unless the idempotency key was used before, a limit
 * is reached, or a dataset or the initial adapter of a job that trains is being deleted.
 *
 * `idempotency_seconds` is '' without an idempotency key; '' as a limit means no limit. `rest` holds the fields of the
 * record and their values.
 *
 * Returns `created`, `conflict`, `no-dataset`, `no-validation`, `no-initial-adapter`, `queue-full`, `owner-full`, or the id of
 * the job that an earlier request with the same idempotency key created.
 */
export const createJobScript = jobScript({
  keys: [
    'all_jobs',
    'sequence_counter',
    'owner_jobs',
    'dataset_deletion',
    'validation_deletion',
    'initial_adapter_deletion',
    'idempotency',
  ],
  arguments: ['kind', 'request_hash', 'idempotency_seconds', 'max_waiting', 'max_of_owner'],
  lua: /* lua */ `
local has_idempotency_key = idempotency_seconds ~= ''
if has_idempotency_key then
  local earlier_job, earlier_hash = unpack(redis.call('HMGET', idempotency, 'job', 'hash'))
  if earlier_job then
    if earlier_hash == request_hash then return earlier_job else return 'conflict' end
  end
end
if kind == 'train' and redis.call('EXISTS', dataset_deletion) == 1 then return 'no-dataset' end
if kind == 'train' and redis.call('EXISTS', validation_deletion) == 1 then return 'no-validation' end
if kind == 'train' and redis.call('EXISTS', initial_adapter_deletion) == 1 then return 'no-initial-adapter' end
local exceeded = exceeded_limit(owner_jobs, tonumber(max_waiting), tonumber(max_of_owner), 1)
if exceeded then return exceeded end
if has_idempotency_key then
  redis.call('HSET', idempotency, 'job', id, 'hash', request_hash)
  redis.call('EXPIRE', idempotency, idempotency_seconds)
end
local sequence = redis.call('INCR', sequence_counter)
redis.call('HSET', record, 'sequence', sequence, 'attempts', 0, 'resumes', 0, unpack(rest))
redis.call('ZADD', all_jobs, sequence, id)
redis.call('ZADD', owner_jobs, sequence, id)
enter('queued')
append_event('job-queued', '{}')
return 'created'
`,
});
