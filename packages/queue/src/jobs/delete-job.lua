--- Removes an ended job and its events. Returns `done`, `missing` or `active`.
--- @keys all_jobs owner_jobs search_facts idempotency
--- @include "includes/job"

local status = redis.call('HGET', record, 'status')
if not status then return 'missing' end
if not is_ended[status] then return 'active' end
redis.call('ZREM', jobs_with[status], id)
redis.call('ZREM', all_jobs, id)
redis.call('ZREM', owner_jobs, id)
redis.call('ZREM', events_to_thin, id)
redis.call('HDEL', search_facts, id, id .. ':name', id .. ':tags')
redis.call('DEL', record, events)
-- The idempotency key may have expired and created another job since.
if redis.call('HGET', idempotency, 'job') == id then redis.call('DEL', idempotency) end
return 'done'
