--- Counts a failed attempt of a message, which is due again after `delay_ms`; not of one that was removed.
--- @keys due_times messages
--- @args id delay_ms
--- @include "~/redis/includes/server-time"

local now_ms = server_time_ms()
if redis.call('HEXISTS', messages, id) == 0 then return 0 end
redis.call('HINCRBY', messages, id .. ':attempts', 1)
redis.call('ZADD', due_times, now_ms + delay_ms, id)
return 1
