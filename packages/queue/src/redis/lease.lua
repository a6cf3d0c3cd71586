--- A lease: a key that expires, unless its process renews it.

--- @script
--- Lengthens a lease. Returns 0 if its process has lost it.
--- @keys lease
--- @args token lease_ms
local function renew_lease()
  if redis.call('GET', lease) == token then return redis.call('PEXPIRE', lease, lease_ms) end
  return 0
end

--- @script
--- Ends a lease, unless its process has lost it.
--- @keys lease
--- @args token
local function end_lease()
  if redis.call('GET', lease) == token then redis.call('DEL', lease) end
  return 1
end

--- @script
--- Makes of the lease the time until the work is due again.
--- @keys lease
--- @args token rest_ms
local function rest_lease()
  if redis.call('GET', lease) == token then redis.call('SET', lease, 'done', 'PX', rest_ms) end
  return 1
end
