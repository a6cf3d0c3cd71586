import { luaScript, SERVER_TIME } from '@lorasmith/redis';

/**
 * Claims the webhook that has been due for longest, for `lease_ms`: it is due again then, unless it is removed or postponed.
 * Returns its id, its message and how many attempts have failed; nil if none is due.
 */
export const claimWebhookScript = luaScript(
  {
    keys: ['webhooks_due', 'webhook_messages'],
    arguments: ['lease_ms'],
    lua: /* lua */ `
local due = redis.call('ZRANGEBYSCORE', webhooks_due, '-inf', now_ms, 'LIMIT', 0, 1)[1]
if not due then return nil end
local message, attempts = unpack(redis.call('HMGET', webhook_messages, due, due .. ':attempts'))
if not message then
  redis.call('ZREM', webhooks_due, due)
  return nil
end
redis.call('ZADD', webhooks_due, now_ms + lease_ms, due)
return {due, message, tonumber(attempts or '0')}
`,
  },
  SERVER_TIME,
);

/** Counts a failed attempt of a webhook, which is due again after `delay_ms`; not of one that was removed. */
export const postponeWebhookScript = luaScript(
  {
    keys: ['webhooks_due', 'webhook_messages'],
    arguments: ['id', 'delay_ms'],
    lua: /* lua */ `
if redis.call('HEXISTS', webhook_messages, id) == 0 then return 0 end
redis.call('HINCRBY', webhook_messages, id .. ':attempts', 1)
redis.call('ZADD', webhooks_due, now_ms + delay_ms, id)
return 1
`,
  },
  SERVER_TIME,
);
