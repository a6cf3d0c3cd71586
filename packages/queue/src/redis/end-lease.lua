--- Ends a lease, unless its process has lost it.
--- @keys lease
--- @args token

if redis.call('GET', lease) == token then redis.call('DEL', lease) end
return 1
