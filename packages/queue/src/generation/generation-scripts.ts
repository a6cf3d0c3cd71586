import { luaScript, SERVER_TIME } from '../redis/lua-script.js';

/** Adds a request to the waiting ones. Returns 0 if too many wait. */
export const submitScript = luaScript(
  {
    keys: ['waiting', 'request'],
    arguments: ['member', 'body', 'lifetime_ms', 'wait_ms', 'max_waiting', 'channel', 'notice'],
    lua: /* lua */ `
redis.call('ZREMRANGEBYSCORE', waiting, '-inf', now_ms)
if redis.call('ZCARD', waiting) >= tonumber(max_waiting) then return 0 end
redis.call('SET', request, body, 'PX', lifetime_ms)
redis.call('ZADD', waiting, now_ms + wait_ms, member)
redis.call('PUBLISH', channel, notice)
return 1
`,
  },
  SERVER_TIME,
);

/** Takes the request that has waited longest, of this base or (`base` is '') of any. Returns its member and score, or nothing. */
export const claimScript = luaScript(
  {
    keys: ['waiting'],
    arguments: ['base'],
    lua: /* lua */ `
redis.call('ZREMRANGEBYSCORE', waiting, '-inf', now_ms)
local members = redis.call('ZRANGE', waiting, 0, -1, 'WITHSCORES')
for i = 1, #members, 2 do
  local member = members[i]
  if base == '' or string.sub(member, string.find(member, ' ', 1, true) + 1) == base then
    redis.call('ZREM', waiting, member)
    return {member, members[i + 1]}
  end
end
return {}
`,
  },
  SERVER_TIME,
);

/** Begins the answer to a claimed request. Returns the request, or nothing if nobody wants the answer any more. */
export const beginScript = luaScript({
  keys: ['request', 'claim'],
  arguments: ['worker', 'lifetime_ms'],
  lua: /* lua */ `
local body = redis.call('GET', request)
if body then redis.call('SET', claim, worker, 'PX', lifetime_ms) end
return body
`,
});

/** Returns a claimed request to the waiting ones, unless its time is over. */
export const giveBackScript = luaScript({
  keys: ['waiting', 'request', 'claim'],
  arguments: ['member', 'score', 'channel', 'notice'],
  lua: /* lua */ `
redis.call('DEL', claim)
if redis.call('EXISTS', request) == 0 then return 0 end
redis.call('ZADD', waiting, score, member)
redis.call('PUBLISH', channel, notice)
return 1
`,
});

/**
 * Adds pieces (`rest`) to an answer, and renews the claim; without pieces it only renews. Returns the number of unread pieces,
 * or -1 if nobody wants the answer any more.
 */
export const pushScript = luaScript({
  keys: ['request', 'claim', 'pieces'],
  arguments: ['worker', 'lifetime_ms', 'channel', 'id'],
  lua: /* lua */ `
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
`,
});

/**
 * Takes up to `count` unread pieces, and renews the request. Returns where it stands (`waiting`, `claimed`, or `lost`: no
 * worker has it) and the pieces.
 */
export const readScript = luaScript({
  keys: ['waiting', 'request', 'claim', 'pieces'],
  arguments: ['member', 'lifetime_ms', 'count'],
  lua: /* lua */ `
redis.call('PEXPIRE', request, lifetime_ms)
redis.call('PEXPIRE', pieces, lifetime_ms)
local unread = redis.call('LRANGE', pieces, 0, count - 1)
redis.call('LTRIM', pieces, #unread, -1)
local state = 'lost'
if redis.call('EXISTS', claim) == 1 then state = 'claimed'
elseif redis.call('ZSCORE', waiting, member) then state = 'waiting' end
return {state, unread}
`,
});

/** Removes everything about a request. Its worker notices at its next piece, or within a second. */
export const leaveScript = luaScript({
  keys: ['waiting', 'request', 'claim', 'pieces'],
  arguments: ['member'],
  lua: /* lua */ `
redis.call('ZREM', waiting, member)
redis.call('DEL', request, claim, pieces)
return 1
`,
});
