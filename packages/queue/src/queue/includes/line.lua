--- The lines of the keys: the order of the jobs of each, and what each key has used. They read the local `now_ms`.
--- @keys key_jobs key_positions key_used key_weights key_clock
--- @include "../queue-entry"

-- Tokens that each start of a job counts for, besides those that it trains: a key whose jobs fail before their first step uses the
-- machine, too.
local tokens_of_start = 1000

-- Counts tokens as used by a key.
local function charge(key, tokens)
  local weight = tonumber(redis.call('HGET', key_weights, key)) or 1
  redis.call('HINCRBYFLOAT', key_used, key, string.format('%.6f', tokens / weight))
end

-- A key gets no credit for the time in which it had no jobs: it counts as having used what the key that has used least has, or
-- what the last one had used when all jobs had ended.
local function wake_key(key)
  local least, least_text
  for _, other in ipairs(redis.call('HKEYS', key_jobs)) do
    local text = redis.call('HGET', key_used, other) or '0'
    if other ~= key and (not least or tonumber(text) < least) then
      least, least_text = tonumber(text), text
    end
  end
  if not least then
    least_text = redis.call('GET', key_clock) or '0'
    least = tonumber(least_text)
  end
  local own = tonumber(redis.call('HGET', key_used, key)) or 0
  if least > own then redis.call('HSET', key_used, key, least_text) end
end

-- Adds the job to the line of its key, `ahead` positions before its end.
local function join_line(entry, ahead)
  entry.place = redis.call('HINCRBY', key_positions, entry.key, 1) - ahead
  entry.queued_at = tonumber(now_ms)
  write_entry(cjson.encode(entry))
end

-- Counts a job whose entry is added to the queue.
local function enter_queue(key)
  if redis.call('HINCRBY', key_jobs, key, 1) == 1 then wake_key(key) end
end

-- Removes the entry of the job from the queue.
local function leave_queue(key)
  write_entry('')
  if redis.call('HINCRBY', key_jobs, key, -1) > 0 then return end
  redis.call('HDEL', key_jobs, key)
  if redis.call('EXISTS', key_jobs) == 0 then
    redis.call('SET', key_clock, redis.call('HGET', key_used, key) or '0')
  end
end
