--- Makes of the lease the time until the work is due again.
--- @keys lease
--- @args token rest_ms

if redis.call('GET', lease) == token then redis.call('SET', lease, 'done', 'PX', rest_ms) end
return 1
