--- Returns a claimed request to the waiting ones, unless its time is over.
--- @keys waiting request claim
--- @args member score channel notice

redis.call('DEL', claim)
if redis.call('EXISTS', request) == 0 then return 0 end
redis.call('ZADD', waiting, score, member)
redis.call('PUBLISH', channel, notice)
return 1
