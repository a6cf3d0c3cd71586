--- A script of the tests.

--- @script
--- Writes a key.
--- @keys key
local function write_key()
  return redis.call('SET', key, 'x')
end
