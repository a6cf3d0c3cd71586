--- Deliveries of adapters: their records, and the lease of the api process that works on one.
---
--- A hash has everything about all of them: the record under `id`, and under `id:owner`, `id:any`, `id:target`, `id:sequence`,
--- `id:place`, `id:webhook`, `id:attempts`, `id:state`, `id:token` and `id:cancel` what scripts read. `due` has the unfinished
--- ones by when they are due; one that is leased is due when its lease ends. `active` has, by target, the one that was
--- taken and not given back; `current` the last one that was delivered.

local function owner_of(id)
  return redis.call('HGET', deliveries, id .. ':owner')
end

-- True if something else than deliveries of this owner is at the target. One with `any` may replace it.
local function is_taken(id, target, owner, any)
  local holder = redis.call('HGET', current, target)
  return holder and holder ~= id and any ~= '1' and owner_of(holder) ~= owner
end

-- The ids of `due_ids`, each followed by its time.
local function by_time_and_sequence(due_ids)
  local entries = {}
  for at = 1, #due_ids, 2 do
    local sequence = tonumber(redis.call('HGET', deliveries, due_ids[at] .. ':sequence'))
    table.insert(entries, {id = due_ids[at], time = tonumber(due_ids[at + 1]), sequence = sequence})
  end
  table.sort(entries, function(one, other)
    if one.time ~= other.time then return one.time < other.time end
    return one.sequence < other.sequence
  end)
  for at, entry in ipairs(entries) do entries[at] = entry.id end
  return entries
end

-- Ends the lease of a delivery, so that others to its target may start.
local function give_back(id)
  local target = redis.call('HGET', deliveries, id .. ':target')
  redis.call('HDEL', deliveries, id .. ':token')
  if redis.call('HGET', active, target) == id then redis.call('HDEL', active, target) end
end

--- @script
--- Adds a delivery, unless there is one with its id, another key's is at its target (without `any`), or `max_open`
--- are unfinished ('' for no limit). Of `max_deliveries` records, the oldest that has ended is removed.
---
--- `rest` are its fields and their values. One that follows a name has the name and the number of its move in `follows` and
--- `move` ('' otherwise): after one of a later move it is not created. Returns `created`, `exists`, `taken`, `full` or `outdated`.
--- @keys deliveries due active current all by_adapter sequence_counter followed
--- @args target owner any adapter max_deliveries max_open follows move
--- @include "includes/delivery-reports"
local function create_delivery()
  if follows ~= '' then
    local last = tonumber(redis.call('HGET', followed, follows)) or 0
    if last > tonumber(move) then return 'outdated' end
    redis.call('HSET', followed, follows, move)
  end
  if redis.call('HEXISTS', deliveries, id) == 1 then return 'exists' end
  if max_open ~= '' and is_taken(id, target, owner, any) then return 'taken' end
  if max_open ~= '' and redis.call('ZCARD', due) >= tonumber(max_open) then return 'full' end
  if redis.call('ZCARD', all) >= tonumber(max_deliveries) then
    for _, other in ipairs(redis.call('ZRANGE', all, 0, -1)) do
      if not redis.call('ZSCORE', due, other) then
        local of, place = unpack(redis.call('HMGET', deliveries, other .. ':target', other .. ':place'))
        if redis.call('HGET', current, of) == other then redis.call('HDEL', current, of) end
        redis.call('ZREM', by_adapter, place)
        redis.call('ZREM', all, other)
        redis.call('DEL', (string.gsub(events, id, other)))
        for _, field in ipairs({'', ':owner', ':any', ':target', ':sequence', ':place', ':webhook', ':attempts'}) do
          redis.call('HDEL', deliveries, other .. field)
        end
        break
      end
    end
  end
  local sequence = redis.call('INCR', sequence_counter)
  local place = adapter .. ':' .. string.format('%016d', sequence) .. ':' .. id
  redis.call(
    'HSET', deliveries, id, record, id .. ':owner', owner, id .. ':any', any, id .. ':target', target,
    id .. ':sequence', sequence, id .. ':place', place, unpack(rest)
  )
  redis.call('ZADD', all, sequence, id)
  redis.call('ZADD', by_adapter, 0, place)
  redis.call('ZADD', due, now_ms, id)
  add_event(events, id, 'delivery-queued', record)
  return 'created'
end

--- @script
--- Takes the delivery that has been due for longest (of those that are due at the same millisecond, the one that was added
--- first), unless another one to the same target was taken before.
---
--- Returns its id, record, state ('' for none), how often it was taken, and `free`, `overtaken` (a later one has been
--- delivered) or `taken` (another key's is at its target); nil if none can be taken.
--- @keys deliveries due active current
--- @args token lease_ms
--- @include "~/redis/includes/common"
local function claim_delivery()
  local now_ms = server_time_ms()
  for _, id in ipairs(by_time_and_sequence(redis.call('ZRANGEBYSCORE', due, '-inf', now_ms, 'WITHSCORES'))) do
    local record, target, sequence, owner, any, state = unpack(redis.call(
      'HMGET', deliveries, id, id .. ':target', id .. ':sequence', id .. ':owner', id .. ':any', id .. ':state'
    ))
    local before = redis.call('HGET', active, target)
    if not before or before == id then
      redis.call('HSET', active, target, id)
      redis.call('HSET', deliveries, id .. ':token', token)
      redis.call('ZADD', due, now_ms + lease_ms, id)
      local attempts = redis.call('HINCRBY', deliveries, id .. ':attempts', 1)
      local verdict = is_taken(id, target, owner, any) and 'taken' or 'free'
      local holder = redis.call('HGET', current, target)
      local later = holder and tonumber(redis.call('HGET', deliveries, holder .. ':sequence'))
      if later and later > tonumber(sequence) then verdict = 'overtaken' end
      return {id, record, state or '', attempts, verdict}
    end
  end
  return nil
end

--- @script
--- Writes the record and the state of a delivery ('' leaves each as it is), and renews its lease. `event_type` is '' for no
--- event.
---
--- Returns `done`, `cancel` (done, and it is to stop), or `lost` (another process has it).
--- @keys deliveries due
--- @args token lease_ms state event_type
--- @include "includes/delivery-reports"
local function write_delivery()
  if redis.call('HGET', deliveries, id .. ':token') ~= token then return 'lost' end
  if record ~= '' then redis.call('HSET', deliveries, id, record) end
  if state ~= '' then redis.call('HSET', deliveries, id .. ':state', state) end
  redis.call('ZADD', due, now_ms + lease_ms, id)
  if event_type ~= '' then add_event(events, id, event_type, record) end
  return redis.call('HEXISTS', deliveries, id .. ':cancel') == 1 and 'cancel' or 'done'
end

--- @script
--- Gives a delivery back: it is due again after `delay_ms`. With `uncounted` 'yes' the attempt does not count.
---
--- Returns `done` or `lost`.
--- @keys deliveries due active
--- @args token delay_ms uncounted
--- @include "includes/delivery-reports"
local function postpone_delivery()
  if redis.call('HGET', deliveries, id .. ':token') ~= token then return 'lost' end
  redis.call('HSET', deliveries, id, record)
  if uncounted == 'yes' then redis.call('HINCRBY', deliveries, id .. ':attempts', -1) end
  redis.call('ZADD', due, now_ms + delay_ms, id)
  give_back(id)
  add_event(events, id, 'delivery-postponed', record)
  return 'done'
end

--- @script
--- Ends a delivery with its record, and adds the webhooks that report it. `token` is '' for one that nobody works on,
--- whose record must still be `expected`. `status` is that of its record. `counted` is what it is counted as.
---
--- Returns `done`, `lost`, or `changed` (its record is another one, or somebody works on it).
--- @keys deliveries due active current ended_counts
--- @args token expected status counted
--- @include "includes/delivery-reports"
local function end_delivery()
  local has, before, target, owner, own_url = unpack(redis.call(
    'HMGET', deliveries, id .. ':token', id, id .. ':target', id .. ':owner', id .. ':webhook'
  ))
  if token ~= '' and has ~= token then return 'lost' end
  if token == '' and (has or before ~= expected) then return 'changed' end
  redis.call('HSET', deliveries, id, record)
  redis.call('HDEL', deliveries, id .. ':state', id .. ':cancel')
  redis.call('ZREM', due, id)
  give_back(id)
  if status == 'delivered' then redis.call('HSET', current, target, id) end
  redis.call('HINCRBY', ended_counts, counted, 1)
  add_event(events, id, 'delivery-' .. status, record)
  add_webhooks('delivery', id, 'end', own_url or nil, {
    type = 'delivery.' .. status, delivery = id, owner = owner, data = record,
  })
  return 'done'
end

--- @script
--- Asks the process that works on a delivery to stop. Returns 1, or 0 if none does.
--- @keys deliveries
--- @args id
local function ask_to_cancel()
  if redis.call('HEXISTS', deliveries, id .. ':token') == 0 then return 0 end
  redis.call('HSET', deliveries, id .. ':cancel', '1')
  return 1
end
