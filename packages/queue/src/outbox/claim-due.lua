--- Claims the message that has been due for longest, for `lease_ms` and the time that it names itself: it is due
--- again then, unless it is removed or postponed. Returns its id, the message and how many attempts have failed;
--- nil if none is due.
--- @keys due_times messages
--- @args lease_ms
--- @include "~/redis/includes/server-time"

local now_ms = server_time_ms()
local due = redis.call('ZRANGEBYSCORE', due_times, '-inf', now_ms, 'LIMIT', 0, 1)[1]
if not due then return nil end
local message, attempts = unpack(redis.call('HMGET', messages, due, due .. ':attempts'))
if not message then
  redis.call('ZREM', due_times, due)
  return nil
end
local own = cjson.decode(message).timeout_ms or 0
redis.call('ZADD', due_times, now_ms + lease_ms + own, due)
return {due, message, tonumber(attempts or '0')}
