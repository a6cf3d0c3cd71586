--- Pulls of base models, and the lease of the puller that works on one.

--- @script
--- Queues a pull, unless one of this name is unfinished. Of `max_pulls` records, the oldest that has ended is removed.
---
--- Returns 1 and the new record, 0 and that of the unfinished pull, -1 if no puller runs, -2 if all records are unfinished.
--- @keys pulls open cancels presence
--- @args id record max_pulls
local function create_pull()
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
end

--- @script
--- Takes an unfinished pull that nobody works on. Returns its record; false if it cannot be taken.
--- @keys pulls open lease
--- @args id puller lease_ms
local function claim_pull()
  if redis.call('SISMEMBER', open, id) == 0 then return false end
  if not redis.call('SET', lease, puller, 'NX', 'PX', lease_ms) then return false end
  return redis.call('HGET', pulls, id)
end

--- @script
--- Writes the record of a pull and renews its lease; of one that has `ended` (1), ends it.
---
--- Returns `written`, `cancel` (written, and it is to stop), or `lost` (another puller has it).
--- @keys pulls open cancels lease
--- @args id record puller lease_ms ended
local function write_pull()
  if redis.call('GET', lease) ~= puller then return 'lost' end
  redis.call('HSET', pulls, id, record)
  if ended == '1' then
    redis.call('SREM', open, id)
    redis.call('SREM', cancels, id)
    redis.call('DEL', lease)
    return 'written'
  end
  redis.call('PEXPIRE', lease, lease_ms)
  return redis.call('SISMEMBER', cancels, id) == 1 and 'cancel' or 'written'
end

--- @script
--- Ends a pull that nobody works on, and asks the puller of any other to stop. Returns its record.
--- @keys pulls open cancels lease
--- @args id as_cancelled
local function cancel_pull()
  if redis.call('SISMEMBER', open, id) == 1 then
    if redis.call('EXISTS', lease) == 1 then
      redis.call('SADD', cancels, id)
    else
      redis.call('HSET', pulls, id, as_cancelled)
      redis.call('SREM', open, id)
    end
  end
  return redis.call('HGET', pulls, id)
end

--- @script
--- Ends the lease of a puller, unless it has lost it.
--- @keys lease
--- @args puller
local function release_pull()
  if redis.call('GET', lease) == puller then redis.call('DEL', lease) end
end
