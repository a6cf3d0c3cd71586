--- Writes a key.
--- @keys key

return redis.call('SET', key, 'x')
