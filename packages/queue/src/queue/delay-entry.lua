--- Records that a job is not taken before a time. Returns 0 if the queue has no entry for it.
--- @args not_before
--- @include "includes/queue-entry"

local text = redis.call('HGET', queue_entries, id)
if not text then return 0 end
local entry = cjson.decode(text)
entry.not_before = tonumber(not_before)
write_entry(cjson.encode(entry))
return 1
