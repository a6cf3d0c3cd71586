--- Takes up to `count` unread chunks, and renews the request. Returns where it stands (`waiting`, `claimed`, or
--- `lost`: no worker has it) and the chunks.
--- @keys waiting request claim chunks
--- @args member lifetime_ms count

redis.call('PEXPIRE', request, lifetime_ms)
redis.call('PEXPIRE', chunks, lifetime_ms)
local unread = redis.call('LRANGE', chunks, 0, count - 1)
redis.call('LTRIM', chunks, #unread, -1)
local state = 'lost'
if redis.call('EXISTS', claim) == 1 then state = 'claimed'
elseif redis.call('ZSCORE', waiting, member) then state = 'waiting' end
return {state, unread}
