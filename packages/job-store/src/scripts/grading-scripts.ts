import { luaScript, SERVER_TIME } from '@lorasmith/redis';

/** Adds a grading, unless it waits already or has an outcome, which is then returned. */
export const askGradingScript = luaScript(
  {
    keys: ['gradings_due', 'grading_messages', 'grading_outcome'],
    arguments: ['id', 'message', 'channel', 'notice'],
    lua: /* lua */ `
local outcome = redis.call('GET', grading_outcome)
if outcome then return outcome end
if redis.call('HSETNX', grading_messages, id, message) == 1 then
  redis.call('ZADD', gradings_due, now_ms, id)
  redis.call('PUBLISH', channel, notice)
end
return nil
`,
  },
  SERVER_TIME,
);

/** Returns the outcome of a grading, or whether it still waits: '' and 1 or 0. */
export const readGradingScript = luaScript({
  keys: ['grading_messages', 'grading_outcome'],
  arguments: ['id'],
  lua: /* lua */ `
return {redis.call('GET', grading_outcome) or '', redis.call('HEXISTS', grading_messages, id)}
`,
});

/**
 * Claims the grading that has been due for longest, for the time of one request and `margin_ms`: it is due again then, unless it has an
 * outcome or was postponed. Returns its id, its message and how many attempts have failed; nil if none is due.
 */
export const claimGradingScript = luaScript(
  {
    keys: ['gradings_due', 'grading_messages'],
    arguments: ['margin_ms'],
    lua: /* lua */ `
local due = redis.call('ZRANGEBYSCORE', gradings_due, '-inf', now_ms, 'LIMIT', 0, 1)[1]
if not due then return nil end
local message, attempts = unpack(redis.call('HMGET', grading_messages, due, due .. ':attempts'))
if not message then
  redis.call('ZREM', gradings_due, due)
  return nil
end
redis.call('ZADD', gradings_due, now_ms + cjson.decode(message).timeout_ms + margin_ms, due)
return {due, message, tonumber(attempts or '0')}
`,
  },
  SERVER_TIME,
);

/** Counts a failed attempt of a grading, which is due again after `delay_ms`; not of one that nobody waits for any more. */
export const postponeGradingScript = luaScript(
  {
    keys: ['gradings_due', 'grading_messages'],
    arguments: ['id', 'delay_ms'],
    lua: /* lua */ `
if redis.call('HEXISTS', grading_messages, id) == 0 then return 0 end
redis.call('HINCRBY', grading_messages, id .. ':attempts', 1)
redis.call('ZADD', gradings_due, now_ms + delay_ms, id)
return 1
`,
  },
  SERVER_TIME,
);

/** Ends a grading with its outcome, kept for `kept_ms`; not one that nobody waits for any more. */
export const settleGradingScript = luaScript({
  keys: ['gradings_due', 'grading_messages', 'grading_outcome'],
  arguments: ['id', 'outcome', 'kept_ms', 'channel'],
  lua: /* lua */ `
redis.call('ZREM', gradings_due, id)
if redis.call('HDEL', grading_messages, id, id .. ':attempts') == 0 then return 0 end
redis.call('SET', grading_outcome, outcome, 'PX', kept_ms)
redis.call('PUBLISH', channel, id)
return 1
`,
});
