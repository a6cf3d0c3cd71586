--- Adds a request to the waiting ones. Returns 0 if too many wait.
--- @keys waiting request
--- @args member body lifetime_ms wait_ms max_waiting channel notice
--- @include "~/redis/includes/server-time"

local now_ms = server_time_ms()
redis.call('ZREMRANGEBYSCORE', waiting, '-inf', now_ms)
if redis.call('ZCARD', waiting) >= tonumber(max_waiting) then return 0 end
redis.call('SET', request, body, 'PX', lifetime_ms)
redis.call('ZADD', waiting, now_ms + wait_ms, member)
redis.call('PUBLISH', channel, notice)
return 1
