--- Removes the record of a sweep that has ended. Returns `done`, `missing` or `active`.
--- @keys sweep events all_sweeps owner_sweeps active_sweeps idempotency
--- @args id

if redis.call('EXISTS', sweep) == 0 then return 'missing' end
if redis.call('SISMEMBER', active_sweeps, id) == 1 then return 'active' end
redis.call('ZREM', all_sweeps, id)
redis.call('ZREM', owner_sweeps, id)
redis.call('DEL', sweep, events)
-- The idempotency key may have expired and created another sweep since.
if redis.call('HGET', idempotency, 'sweep') == id then redis.call('DEL', idempotency) end
return 'done'
