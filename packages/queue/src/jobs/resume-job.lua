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
