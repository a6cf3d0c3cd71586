--- Removes everything about a request. Its worker notices at its next chunk, or within a second.
--- @keys waiting request claim chunks
--- @args member

redis.call('ZREM', waiting, member)
redis.call('DEL', request, claim, chunks)
return 1
