--- Adds chunks (`rest`) to an answer, and renews the claim; without chunks it only renews. Returns the number of
--- unread chunks, or -1 if nobody wants the answer any more.
--- @keys request claim chunks
--- @args worker lifetime_ms channel id

if redis.call('EXISTS', request) == 0 then
  redis.call('DEL', claim, chunks)
  return -1
end
redis.call('SET', claim, worker, 'PX', lifetime_ms)
if #rest > 0 then
  redis.call('RPUSH', chunks, unpack(rest))
  redis.call('PUBLISH', channel, id)
end
redis.call('PEXPIRE', chunks, lifetime_ms)
return redis.call('LLEN', chunks)
