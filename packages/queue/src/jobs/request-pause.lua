--- Pauses a waiting job at once, and requests a pause of a running job from its worker.
---
--- Returns `paused` (by this call, or before), `requested`, `cancelling`, `publishing`, `not-a-training`,
--- `ended`, or `missing`.
--- @args now
--- @include "includes/job"

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
