--- What many scripts ask.

-- True if a value is one of those that are joined by commas.
local function is_one_of(value, joined)
  return string.find(',' .. joined .. ',', ',' .. value .. ',', 1, true) ~= nil
end

-- The time of the Redis server in milliseconds, for hosts may disagree about theirs.
local function server_time_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
