import { redisScript } from './redis-script.js';

/** Key: the reserved bytes by job. Argument: an owner ('' for nobody). Answers what is reserved for it, and in all. */
export const reservedBytesScript = redisScript(`
local own, total = 0, 0
for _, reserved in ipairs(redis.call('HVALS', KEYS[1])) do
  local bytes, owner = string.match(reserved, '^(%d+):(.*)$')
  total = total + tonumber(bytes)
  if owner == ARGV[1] then own = own + tonumber(bytes) end
end
return {string.format('%.0f', own), string.format('%.0f', total)}
`);
