--- Writes a field of a sweep once, with the event that reports it, and with the webhooks of its end if
--- `webhook_type` is not ''. Whoever comes later finds the first value. Once the sweep has its outcome, nothing
--- else is written. Returns the value; nil if there is none.
--- @args field value event_type event_data webhook_type
--- @include "includes/sweep-reports"

if redis.call('EXISTS', sweep) == 0 then return nil end
local before = redis.call('HGET', sweep, field)
if before then return before end
if redis.call('HEXISTS', sweep, 'outcome') == 1 then return nil end
redis.call('HSET', sweep, field, value)
local event_id = add_event(events, id, event_type, event_data)
if webhook_type ~= '' then
  local request, owner, own_url = unpack(redis.call('HMGET', sweep, 'request', 'owner', 'webhook_url'))
  add_webhooks('sweep', id, event_id, own_url or nil, {
    type = webhook_type, sweep = id, owner = owner or '', data = event_data, request = request,
  })
end
return value
