--- Lets a job of a sweep go on from the step at which it is held, to the next one ('' for its end), unless
--- something else than its running is wanted of the sweep. Once done, it changes nothing: the job is then held at
--- another step.
---
--- Returns `queued`, `waiting` (it is not wanted to run), `moved` (it is not held at this step) or `missing`.
--- @keys sweep
--- @args from_step next_step
--- @include "~/jobs/includes/job"

local status, step, is_held = unpack(redis.call('HMGET', record, 'status', 'hold_at_step', 'is_held'))
if not status then return 'missing' end
if status ~= 'paused' or not is_held or step ~= from_step then return 'moved' end
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
