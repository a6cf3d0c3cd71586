--- Comparisons of two models: their records, their rows, and the lease of the api process that works on one.
---
--- The hash of one has its `record`, and `owner`, `token` (of the lease), `cancel` and `attempts`, which scripts read. Its
--- rows are a hash of their own, by number. `due` has the unfinished ones by when they are due; one that is leased is due
--- when its lease ends.

--- @script
--- Adds a comparison, unless `max_open` or `max_open_of_owner` are unfinished ('' for no limit).
---
--- Returns `created`, `full` or `owner-full`.
--- @keys all of_owner sequence_counter
--- @args record owner max_open max_open_of_owner
--- @include "includes/comparison-reports"
local function create_comparison()
  if redis.call('ZCARD', due) >= tonumber(max_open) then return 'full' end
  if max_open_of_owner ~= '' then
    local open = 0
    for _, other in ipairs(redis.call('ZRANGE', of_owner, 0, -1)) do
      if redis.call('ZSCORE', due, other) then open = open + 1 end
    end
    if open >= tonumber(max_open_of_owner) then return 'owner-full' end
  end
  local sequence = redis.call('INCR', sequence_counter)
  redis.call('HSET', comparison, 'record', record, 'owner', owner)
  redis.call('ZADD', all, sequence, id)
  redis.call('ZADD', of_owner, sequence, id)
  redis.call('ZADD', due, now_ms, id)
  add_event(events, id, 'comparison-queued', '{}')
  return 'created'
end

--- @script
--- Takes the comparison that has been due for longest. Returns its id; nil if none is due.
--- @keys due
--- @args lease_ms
--- @include "~/redis/includes/common"
local function claim_comparison()
  local now_ms = server_time_ms()
  local id = redis.call('ZRANGEBYSCORE', due, '-inf', now_ms, 'LIMIT', 0, 1)[1]
  if id then redis.call('ZADD', due, now_ms + lease_ms, id) end
  return id
end

--- @script
--- Gives a comparison that was claimed to a process. Returns its record and how often it was taken without a row; nil if
--- it has ended or was removed since.
--- @keys comparison due
--- @args id token
local function lease_comparison()
  local record = redis.call('HGET', comparison, 'record')
  if not record or not redis.call('ZSCORE', due, id) then
    redis.call('ZREM', due, id)
    return nil
  end
  redis.call('HSET', comparison, 'token', token)
  return {record, redis.call('HINCRBY', comparison, 'attempts', 1)}
end

--- @script
--- Writes the record, a row and an event of a comparison ('' for none of them), and renews its lease.
---
--- Returns `done`, `cancel` (done, and it is to stop), or `lost` (another process has it).
--- @keys rows
--- @args token lease_ms record row_number row event_type event_data
--- @include "includes/comparison-reports"
local function write_comparison()
  if not has_lease(token) then return 'lost' end
  if record ~= '' then redis.call('HSET', comparison, 'record', record) end
  if row ~= '' then
    redis.call('HSET', rows, row_number, row)
    redis.call('HSET', comparison, 'attempts', 0)
  end
  if event_type ~= '' then add_event(events, id, event_type, event_data) end
  redis.call('ZADD', due, now_ms + lease_ms, id)
  return redis.call('HEXISTS', comparison, 'cancel') == 1 and 'cancel' or 'done'
end

--- @script
--- Gives a comparison back: it is due again now, and the attempt does not count. Returns `done` or `lost`.
--- @keys comparison due
--- @args id token
--- @include "~/redis/includes/common"
local function give_back_comparison()
  if redis.call('HGET', comparison, 'token') ~= token then return 'lost' end
  redis.call('HDEL', comparison, 'token')
  redis.call('HINCRBY', comparison, 'attempts', -1)
  redis.call('ZADD', due, server_time_ms(), id)
  return 'done'
end

--- @script
--- Ends a comparison with its record, its event, and the webhook that reports it. `token` is '' for one that nobody works
--- on, whose record must still be `expected`.
---
--- Returns `done`, `lost`, or `changed` (its record is another one, or somebody works on it).
--- @args token record expected event_type event_data webhook_type
--- @include "includes/comparison-reports"
local function end_comparison()
  local has, before, owner = unpack(redis.call('HMGET', comparison, 'token', 'record', 'owner'))
  if token ~= '' and has ~= token then return 'lost' end
  if token == '' and (has or before ~= expected) then return 'changed' end
  redis.call('HSET', comparison, 'record', record)
  redis.call('HDEL', comparison, 'token', 'cancel', 'attempts')
  redis.call('ZREM', due, id)
  local event_id = add_event(events, id, event_type, event_data)
  add_webhooks('comparison', id, event_id, nil, {
    type = webhook_type, comparison = id, owner = owner, data = record,
  })
  return 'done'
end

--- @script
--- Asks the process that works on a comparison to stop. Returns 1, or 0 if none does.
--- @keys comparison
--- @args id
local function ask_comparison_to_cancel()
  if redis.call('HEXISTS', comparison, 'token') == 0 then return 0 end
  redis.call('HSET', comparison, 'cancel', '1')
  return 1
end

--- @script
--- Removes a comparison that has ended. Returns `done`, `missing` or `active`.
--- @keys comparison rows events all of_owner due
--- @args id
local function delete_comparison()
  if redis.call('EXISTS', comparison) == 0 then return 'missing' end
  if redis.call('ZSCORE', due, id) then return 'active' end
  redis.call('ZREM', all, id)
  redis.call('ZREM', of_owner, id)
  redis.call('DEL', comparison, rows, events)
  return 'done'
end
