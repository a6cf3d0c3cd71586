--- Takes the request that has waited longest, of this base or (`base` is '') of any. Returns its member and
--- score, or nothing.
--- @keys waiting
--- @args base
--- @include "~/redis/includes/server-time"

local now_ms = server_time_ms()
redis.call('ZREMRANGEBYSCORE', waiting, '-inf', now_ms)
local members = redis.call('ZRANGE', waiting, 0, -1, 'WITHSCORES')
for i = 1, #members, 2 do
  local member = members[i]
  if base == '' or string.sub(member, string.find(member, ' ', 1, true) + 1) == base then
    redis.call('ZREM', waiting, member)
    return {member, members[i + 1]}
  end
end
return {}
