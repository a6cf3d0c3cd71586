--- Adds pieces (`rest`) to an answer, and renews the claim; without pieces it only renews. Returns the number of
--- unread pieces, or -1 if nobody wants the answer any more.
--- @keys request claim pieces
--- @args worker lifetime_ms channel id

if redis.call('EXISTS', request) == 0 then
  redis.call('DEL', claim, pieces)
  return -1
end
redis.call('SET', claim, worker, 'PX', lifetime_ms)
if #rest > 0 then
  redis.call('RPUSH', pieces, unpack(rest))
  redis.call('PUBLISH', channel, id)
end
redis.call('PEXPIRE', pieces, lifetime_ms)
return redis.call('LLEN', pieces)
