--- Changes a record: its status, its fields, and the event that reports the change.
---
--- `attempt_token` is '' for any attempt; `allowed_statuses` are joined by commas; `new_status` is '' to keep the
--- status; a requested cancel prevents the change if `heed_cancel` is 'yes', a requested pause if `heed_pause`
--- is; `event_type` is '' for no event; `used_tokens` are counted as used by the key of the job. `event_number`
--- is that of the event among those of its attempt ('' for none), by which one that is sent again is recognized.
--- A job that returns to the queue goes to the end of its line if `had_slice` is 'yes', and `seconds` of it
--- remain ('' if that has not changed); if a pause was requested, or if its rung is at the step `rung_step` ('' for
--- none), it is paused instead. `rest` has fields and their values.
---
--- Returns `done`, `paused` (instead of returned to the queue), `missing`, `stale` (another attempt has the
--- job), `cancel-requested`, `pause-requested`, or the status that does not allow the change. A release or an
--- event that is repeated because its reply was lost is `done` again, and changes nothing.
--- @args attempt_token allowed_statuses new_status heed_cancel heed_pause event_type event_data event_number
--- @args used_tokens had_slice rung_step seconds
--- @include "includes/job"
--- @include "~/redis/includes/one-of"

local status, current_token = unpack(redis.call('HMGET', record, 'status', 'attempt_token'))
if not status then return 'missing' end
if attempt_token ~= '' and current_token ~= attempt_token then
  local is_released = redis.call('HGET', record, 'released_token') == attempt_token
  if status == new_status and is_released then return 'done' end
  if status == 'paused' and new_status == 'queued' and is_released then return 'paused' end
  return 'stale'
end
if not is_one_of(status, allowed_statuses) then return status end
if heed_cancel == 'yes' and redis.call('HEXISTS', record, 'cancel_requested_at') == 1 then
  return 'cancel-requested'
end
if heed_pause == 'yes' and redis.call('HEXISTS', record, 'pause_requested_at') == 1 then return 'pause-requested' end
if event_number ~= '' then
  local event = attempt_token .. ':' .. event_number
  if redis.call('HGET', record, 'last_event') == event then return 'done' end
  redis.call('HSET', record, 'last_event', event)
end
if #rest > 0 then redis.call('HSET', record, unpack(rest)) end
if used_tokens ~= '0' then charge(redis.call('HGET', record, 'owner') or '', tonumber(used_tokens)) end
-- Until the decision about it; if that came meanwhile, it continues.
local is_at_rung = rung_step ~= '' and redis.call('HGET', record, 'hold_at_step') == rung_step
if is_at_rung then redis.call('HSET', record, 'is_held', '1') end
if new_status == 'queued' and (is_at_rung or redis.call('HEXISTS', record, 'pause_requested_at') == 1) then
  return_to_line(false, seconds)
  pause()
  return 'paused'
end
if new_status ~= '' and new_status ~= status then
  move(new_status)
  if new_status == 'queued' then return_to_line(had_slice == 'yes', seconds) end
end
if event_type ~= '' then append_event(event_type, event_data) end
return 'done'
