--- Removes everything about a request. Its worker notices at its next piece, or within a second.
--- @keys waiting request claim pieces
--- @args member

redis.call('ZREM', waiting, member)
redis.call('DEL', request, claim, pieces)
return 1
