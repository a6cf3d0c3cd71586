--- Lets a job of a sweep that is paused at its rung continue, to the next one ('' for its end), unless something else
--- than its running is wanted of the sweep. Once done, it changes nothing: the job then has another rung.
---
--- Returns `queued`, `waiting` (it is not wanted to run), `moved` (it is not paused at this rung) or `missing`.
--- @keys sweep
--- @args from_step next_step
--- @include "~/jobs/includes/job"

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
