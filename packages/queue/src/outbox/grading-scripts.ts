import { luaScript, SERVER_TIME } from '../redis/lua-script.js';

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
