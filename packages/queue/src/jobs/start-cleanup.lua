--- Starts a cleanup, unless the job has another status or a cleanup is running. The job cannot be resumed during
--- a cleanup, whose lease expires if the process dies. Returns 1, or 0 if no cleanup was started.
--- @keys record cleanup
--- @args allowed_statuses token lease_ms
--- @include "~/redis/includes/one-of"

local status = redis.call('HGET', record, 'status')
if not status or not is_one_of(status, allowed_statuses) then return 0 end
if redis.call('SET', cleanup, token, 'NX', 'PX', lease_ms) then return 1 end
return 0
