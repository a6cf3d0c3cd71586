import { luaScript, SERVER_TIME } from '../redis/lua-script.js';

/**
 * Claims the message that has been due for longest, for `lease_ms` and the time that it names itself: it is due again then, unless it is
 * removed or postponed. Returns its id, the message and how many attempts have failed; nil if none is due.
 */
export const claimDueScript = luaScript(
  {
    keys: ['due_times', 'messages'],
    arguments: ['lease_ms'],
    lua: /* lua */ `
local due = redis.call('ZRANGEBYSCORE', due_times, '-inf', now_ms, 'LIMIT', 0, 1)[1]
if not due then return nil end
local message, attempts = unpack(redis.call('HMGET', messages, due, due .. ':attempts'))
if not message then
  redis.call('ZREM', due_times, due)
  return nil
end
local own = cjson.decode(message).timeout_ms or 0
redis.call('ZADD', due_times, now_ms + lease_ms + own, due)
return {due, message, tonumber(attempts or '0')}
`,
  },
  SERVER_TIME,
);

/** Counts a failed attempt of a message, which is due again after `delay_ms`; not of one that was removed. */
export const postponeDueScript = luaScript(
  {
    keys: ['due_times', 'messages'],
    arguments: ['id', 'delay_ms'],
    lua: /* lua */ `
if redis.call('HEXISTS', messages, id) == 0 then return 0 end
redis.call('HINCRBY', messages, id .. ':attempts', 1)
redis.call('ZADD', due_times, now_ms + delay_ms, id)
return 1
`,
  },
  SERVER_TIME,
);
