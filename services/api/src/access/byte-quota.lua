--- Bytes of uploads that are reserved until they are stored.

--- @script
--- Sets the reservation of an upload in each pool of `rest_keys`: a hash of uploads, each `bytes:expiry`. Expired reservations, left by
--- processes that died, are removed. Returns the reserved bytes of each pool.
--- @args upload bytes duration_ms
--- @include "~/redis/includes/common"
local function reserve_bytes()
  local now = server_time_ms()
  local sums = {}
  for i, pool in ipairs(rest_keys) do
    redis.call('HSET', pool, upload, bytes .. ':' .. string.format('%.0f', now + duration_ms))
    redis.call('PEXPIRE', pool, duration_ms)
    local sum, entries = 0, redis.call('HGETALL', pool)
    for j = 1, #entries, 2 do
      local reserved, expiry = string.match(entries[j + 1], '^(%d+):(%d+)$')
      if tonumber(expiry) < now then redis.call('HDEL', pool, entries[j]) else sum = sum + tonumber(reserved) end
    end
    sums[i] = string.format('%.0f', sum)
  end
  return sums
end
