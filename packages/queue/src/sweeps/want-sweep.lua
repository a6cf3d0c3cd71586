--- Records what the user wants of a sweep: `run`, `pause` or `cancel`. It is unsettled until all jobs have been
--- asked. A cancel is not taken back.
---
--- Returns `done`, `missing`, `ended` or `cancelling`.
--- @args wanted
--- @include "includes/sweep-reports"

local before = redis.call('HGET', sweep, 'wanted')
if not before then return 'missing' end
if redis.call('HEXISTS', sweep, 'outcome') == 1 then return 'ended' end
if before == 'cancel' and wanted ~= 'cancel' then return 'cancelling' end
redis.call('HSET', sweep, 'wanted', wanted, 'is_settled', '0')
local event_types = {pause = 'sweep-paused', run = 'sweep-resumed'}
if wanted ~= before and event_types[wanted] then add_event(events, id, event_types[wanted], '{}') end
return 'done'
