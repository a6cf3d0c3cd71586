--- Takes an unfinished pull that nobody works on. Returns its record; false if it cannot be taken.
--- @keys pulls open lease
--- @args id puller lease_ms

if redis.call('SISMEMBER', open, id) == 0 then return false end
if not redis.call('SET', lease, puller, 'NX', 'PX', lease_ms) then return false end
return redis.call('HGET', pulls, id)
