--- Cancels a waiting or paused job at once, and requests a cancel of a running job from its worker. A worker that
--- takes the job at the same moment does so entirely before or after this script. `rung` is the step of the rung
--- that stops the job, '' for none.
---
--- Returns `cancelled` (by this call), `requested`, `publishing`, `ended` (before this call), or `missing`.
--- @args now rung
--- @include "includes/job"

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
