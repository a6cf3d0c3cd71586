--- Ends a pull that nobody works on, and asks the puller of any other to stop. Returns its record.
--- @keys pulls open cancels lease
--- @args id as_cancelled

if redis.call('SISMEMBER', open, id) == 1 then
  if redis.call('EXISTS', lease) == 1 then
    redis.call('SADD', cancels, id)
  else
    redis.call('HSET', pulls, id, as_cancelled)
    redis.call('SREM', open, id)
  end
end
return redis.call('HGET', pulls, id)
