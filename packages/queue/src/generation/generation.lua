--- Requests for text, which wait for a worker, and their answers, chunk by chunk.

--- @script
--- Adds a request to the waiting ones. Returns 0 if too many wait.
--- @keys waiting request
--- @args member body lifetime_ms wait_ms max_waiting channel notice
--- @include "~/redis/includes/common"
local function submit_request()
  local now_ms = server_time_ms()
  redis.call('ZREMRANGEBYSCORE', waiting, '-inf', now_ms)
  if redis.call('ZCARD', waiting) >= tonumber(max_waiting) then return 0 end
  redis.call('SET', request, body, 'PX', lifetime_ms)
  redis.call('ZADD', waiting, now_ms + wait_ms, member)
  redis.call('PUBLISH', channel, notice)
  return 1
end

--- @script
--- Takes up to `count` unread chunks, and renews the request. Returns where it stands (`waiting`, `claimed`, or
--- `lost`: no worker has it) and the chunks.
--- @keys waiting request claim chunks
--- @args member lifetime_ms count
local function read_chunks()
  redis.call('PEXPIRE', request, lifetime_ms)
  redis.call('PEXPIRE', chunks, lifetime_ms)
  local unread = redis.call('LRANGE', chunks, 0, count - 1)
  redis.call('LTRIM', chunks, #unread, -1)
  local state = 'lost'
  if redis.call('EXISTS', claim) == 1 then state = 'claimed'
  elseif redis.call('ZSCORE', waiting, member) then state = 'waiting' end
  return {state, unread}
end

--- @script
--- Removes everything about a request. Its worker notices at its next chunk, or within a second.
--- @keys waiting request claim chunks
--- @args member
local function leave_request()
  redis.call('ZREM', waiting, member)
  redis.call('DEL', request, claim, chunks)
  return 1
end

--- @script
--- Takes the request that has waited longest, of this base or (`base` is '') of any. Returns its member and
--- score, or nothing.
--- @keys waiting
--- @args base
--- @include "~/redis/includes/common"
local function claim_request()
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
end

--- @script
--- Begins the answer to a claimed request. Returns the request, or nothing if nobody wants the answer any more.
--- @keys request claim
--- @args worker lifetime_ms
local function begin_answer()
  local body = redis.call('GET', request)
  if body then redis.call('SET', claim, worker, 'PX', lifetime_ms) end
  return body
end

--- @script
--- Returns a claimed request to the waiting ones, unless its time is over.
--- @keys waiting request claim
--- @args member score channel notice
local function give_back_request()
  redis.call('DEL', claim)
  if redis.call('EXISTS', request) == 0 then return 0 end
  redis.call('ZADD', waiting, score, member)
  redis.call('PUBLISH', channel, notice)
  return 1
end

--- @script
--- Adds chunks (`rest`) to an answer, and renews the claim; without chunks it only renews. Returns the number of
--- unread chunks, or -1 if nobody wants the answer any more.
--- @keys request claim chunks
--- @args worker lifetime_ms channel id
local function push_chunks()
  if redis.call('EXISTS', request) == 0 then
    redis.call('DEL', claim, chunks)
    return -1
  end
  redis.call('SET', claim, worker, 'PX', lifetime_ms)
  if #rest > 0 then
    redis.call('RPUSH', chunks, unpack(rest))
    redis.call('PUBLISH', channel, id)
  end
  redis.call('PEXPIRE', chunks, lifetime_ms)
  return redis.call('LLEN', chunks)
end
