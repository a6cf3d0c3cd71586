--- Returns the bytes reserved for an owner ('' for none) and for all owners, as decimal text.
--- @keys reserved_bytes
--- @args owner

local own, total = 0, 0
for _, reserved in ipairs(redis.call('HVALS', reserved_bytes)) do
  local bytes, job_owner = string.match(reserved, '^(%d+):(.*)$')
  total = total + tonumber(bytes)
  if job_owner == owner then own = own + tonumber(bytes) end
end
return {string.format('%.0f', own), string.format('%.0f', total)}
