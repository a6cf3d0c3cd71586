--- Messages that are due for another service, and gradings, which wait for its answer.

--- @script
--- Claims the message that has been due for longest, for `lease_ms` and the time that it names itself: it is due
--- again then, unless it is removed or postponed. Returns its id, the message and how many attempts have failed;
--- nil if none is due.
--- @keys due_times messages
--- @args lease_ms
--- @include "~/redis/includes/common"
local function claim_due()
  local now_ms = server_time_ms()
  local due = redis.call('ZRANGEBYSCORE', due_times, '-inf', now_ms, 'LIMIT', 0, 1)[1]
  if not due then return nil end
  local message, attempts = unpack(redis.call('HMGET', messages, due, due .. ':attempts'))
  if not message then
    redis.call('ZREM', due_times, due)
    return nil
  end
  local own = cjson.decode(message).timeout_ms or 0
  redis.call('ZADD', due_times, now_ms + lease_ms + own, due)
  return {due, message, tonumber(attempts or '0')}
end

--- @script
--- Counts a failed attempt of a message, which is due again after `delay_ms`; not of one that was removed.
--- @keys due_times messages
--- @args id delay_ms
--- @include "~/redis/includes/common"
local function postpone_due()
  local now_ms = server_time_ms()
  if redis.call('HEXISTS', messages, id) == 0 then return 0 end
  redis.call('HINCRBY', messages, id .. ':attempts', 1)
  redis.call('ZADD', due_times, now_ms + delay_ms, id)
  return 1
end

--- @script
--- Adds a grading, unless it waits already or has an outcome, which is then returned.
--- @keys gradings_due grading_messages grading_outcome
--- @args id message channel notice
--- @include "~/redis/includes/common"
local function ask_grading()
  local now_ms = server_time_ms()
  local outcome = redis.call('GET', grading_outcome)
  if outcome then return outcome end
  if redis.call('HSETNX', grading_messages, id, message) == 1 then
    redis.call('ZADD', gradings_due, now_ms, id)
    redis.call('PUBLISH', channel, notice)
  end
  return nil
end

--- @script
--- Returns the outcome of a grading, or whether it still waits: '' and 1 or 0.
--- @keys grading_messages grading_outcome
--- @args id
local function read_grading()
  return {redis.call('GET', grading_outcome) or '', redis.call('HEXISTS', grading_messages, id)}
end

--- @script
--- Ends a grading with its outcome, kept for `kept_ms`; not one that nobody waits for any more.
--- @keys gradings_due grading_messages grading_outcome
--- @args id outcome kept_ms channel
local function settle_grading()
  redis.call('ZREM', gradings_due, id)
  if redis.call('HDEL', grading_messages, id, id .. ':attempts') == 0 then return 0 end
  redis.call('SET', grading_outcome, outcome, 'PX', kept_ms)
  redis.call('PUBLISH', channel, id)
  return 1
end
