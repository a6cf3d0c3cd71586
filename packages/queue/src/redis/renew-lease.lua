--- Lengthens a lease. Returns 0 if its process has lost it.
--- @keys lease
--- @args token lease_ms

if redis.call('GET', lease) == token then return redis.call('PEXPIRE', lease, lease_ms) end
return 0
