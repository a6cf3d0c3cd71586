--- Records that all jobs have been asked for what is wanted. If something else is wanted by now, some may have
--- been asked for the old after the new: all are asked again.
--- @keys sweep
--- @args wanted

local now = redis.call('HGET', sweep, 'wanted')
if not now or redis.call('HEXISTS', sweep, 'outcome') == 1 then return 0 end
redis.call('HSET', sweep, 'is_settled', now == wanted and '1' or '0')
return 1
