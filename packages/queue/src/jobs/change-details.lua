--- Changes fields of a job that do not affect it, together with what it is found by. `rest` has, for each, its
--- name, its value, and the value to find it by. A value of '' removes it.
---
--- Returns `done` or `missing`.
--- @keys record search_facts
--- @args id

if redis.call('HEXISTS', record, 'status') == 0 then return 'missing' end
local function put(hash, field, value)
  if value == '' then redis.call('HDEL', hash, field) else redis.call('HSET', hash, field, value) end
end
for first = 1, #rest, 3 do
  put(record, rest[first], rest[first + 1])
  put(search_facts, id .. ':' .. rest[first], rest[first + 2])
end
return 'done'
