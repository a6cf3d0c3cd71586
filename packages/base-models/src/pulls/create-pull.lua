--- Queues a pull, unless one of this name is unfinished. Of `max_pulls` records, the oldest that has ended is removed.
---
--- Returns 1 and the new record, 0 and that of the unfinished pull, -1 if no puller runs, -2 if all records are unfinished.
--- @keys pulls open cancels presence
--- @args id record max_pulls

local existing = redis.call('HGET', pulls, id)
if existing and redis.call('SISMEMBER', open, id) == 1 then return {0, existing} end
if redis.call('EXISTS', presence) == 0 then return {-1, ''} end
if not existing and redis.call('HLEN', pulls) >= tonumber(max_pulls) then
  local oldest, oldest_at
  for _, text in ipairs(redis.call('HVALS', pulls)) do
    local pull = cjson.decode(text)
    if redis.call('SISMEMBER', open, pull.id) == 0 and (not oldest or pull.created_at < oldest_at) then
      oldest, oldest_at = pull.id, pull.created_at
    end
  end
  if not oldest then return {-2, ''} end
  redis.call('HDEL', pulls, oldest)
end
redis.call('HSET', pulls, id, record)
redis.call('SADD', open, id)
redis.call('SREM', cancels, id)
return {1, record}
