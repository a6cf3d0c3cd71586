import { REPORT_FUNCTIONS } from '../events/report-functions.js';
import { type LuaSource, luaScript, SERVER_TIME } from '../redis/lua-script.js';

/** {@link REPORT_FUNCTIONS} for the sweep `id`, whose events are in `events`. */
const SWEEP_REPORTS = {
  keys: ['sweep', 'events', 'webhooks_due', 'webhook_messages', 'webhook_for_all'],
  arguments: ['id', 'event_channel'],
  lua: SERVER_TIME.lua + REPORT_FUNCTIONS,
} as const satisfies LuaSource;

/**
 * Records what the user wants of a sweep: `run`, `pause` or `cancel`. It is unsettled until all jobs have been asked. A cancel is not
 * taken back.
 *
 * Returns `done`, `missing`, `ended` or `cancelling`.
 */
export const wantSweepScript = luaScript(
  {
    keys: [],
    arguments: ['wanted'],
    lua: /* lua */ `
local before = redis.call('HGET', sweep, 'wanted')
if not before then return 'missing' end
if redis.call('HEXISTS', sweep, 'outcome') == 1 then return 'ended' end
if before == 'cancel' and wanted ~= 'cancel' then return 'cancelling' end
redis.call('HSET', sweep, 'wanted', wanted, 'is_settled', '0')
local event_types = {pause = 'sweep-paused', run = 'sweep-resumed'}
if wanted ~= before and event_types[wanted] then add_event(events, id, event_types[wanted], '{}') end
return 'done'
`,
  },
  SWEEP_REPORTS,
);

/**
 * Records that all jobs have been asked for what is wanted. If something else is wanted by now, some may have been asked for the old
 * after the new: all are asked again.
 */
export const settleSweepScript = luaScript({
  keys: ['sweep'],
  arguments: ['wanted'],
  lua: /* lua */ `
local now = redis.call('HGET', sweep, 'wanted')
if not now or redis.call('HEXISTS', sweep, 'outcome') == 1 then return 0 end
redis.call('HSET', sweep, 'is_settled', now == wanted and '1' or '0')
return 1
`,
});

/**
 * Writes a field of a sweep once, with the event that reports it, and with the webhooks of its end if `webhook_type` is not ''. Whoever comes
 * later finds the first value. Once the sweep has its outcome, nothing else is written. Returns the value; nil if there is none.
 */
export const decideSweepScript = luaScript(
  {
    keys: [],
    arguments: ['field', 'value', 'event_type', 'event_data', 'webhook_type'],
    lua: /* lua */ `
if redis.call('EXISTS', sweep) == 0 then return nil end
local before = redis.call('HGET', sweep, field)
if before then return before end
if redis.call('HEXISTS', sweep, 'outcome') == 1 then return nil end
redis.call('HSET', sweep, field, value)
local event_id = add_event(events, id, event_type, event_data)
if webhook_type ~= '' then
  local request, owner, own_url = unpack(redis.call('HMGET', sweep, 'request', 'owner', 'webhook_url'))
  add_webhooks('sweep', id, event_id, own_url or nil, {
    type = webhook_type, sweep = id, owner = owner or '', data = event_data, request = request,
  })
end
return value
`,
  },
  SWEEP_REPORTS,
);

/** Removes the record of a sweep that has ended. Returns `done`, `missing` or `active`. */
export const deleteSweepScript = luaScript({
  keys: ['sweep', 'events', 'all_sweeps', 'owner_sweeps', 'active_sweeps', 'idempotency'],
  arguments: ['id'],
  lua: /* lua */ `
if redis.call('EXISTS', sweep) == 0 then return 'missing' end
if redis.call('SISMEMBER', active_sweeps, id) == 1 then return 'active' end
redis.call('ZREM', all_sweeps, id)
redis.call('ZREM', owner_sweeps, id)
redis.call('DEL', sweep, events)
-- The idempotency key may have expired and created another sweep since.
if redis.call('HGET', idempotency, 'sweep') == id then redis.call('DEL', idempotency) end
return 'done'
`,
});
