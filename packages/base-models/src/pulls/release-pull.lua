--- Ends the lease of a puller, unless it has lost it.
--- @keys lease
--- @args puller

if redis.call('GET', lease) == puller then redis.call('DEL', lease) end
