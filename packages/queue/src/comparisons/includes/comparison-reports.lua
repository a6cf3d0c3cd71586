--- Reports of the comparison `id`, whose events are in `events`.
--- @keys comparison events due
--- @args id
--- @include "~/redis/includes/common"

local now_ms = server_time_ms()

--- @include "~/events/includes/report"

-- True if the process with this token has the comparison.
local function has_lease(token)
  return redis.call('HGET', comparison, 'token') == token
end
