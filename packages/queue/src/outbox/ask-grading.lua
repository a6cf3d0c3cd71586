--- Adds a grading, unless it waits already or has an outcome, which is then returned.
--- @keys gradings_due grading_messages grading_outcome
--- @args id message channel notice
--- @include "~/redis/includes/server-time"

local now_ms = server_time_ms()
local outcome = redis.call('GET', grading_outcome)
if outcome then return outcome end
if redis.call('HSETNX', grading_messages, id, message) == 1 then
  redis.call('ZADD', gradings_due, now_ms, id)
  redis.call('PUBLISH', channel, notice)
end
return nil
