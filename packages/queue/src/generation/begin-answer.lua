--- Begins the answer to a claimed request. Returns the request, or nothing if nobody wants the answer any more.
--- @keys request claim
--- @args worker lifetime_ms

local body = redis.call('GET', request)
if body then redis.call('SET', claim, worker, 'PX', lifetime_ms) end
return body
