import { luaScript } from '@lorasmith/redis';

/**
 * Records what the user wants of a sweep: `run`, `pause` or `cancel`. It is unsettled until all jobs have been asked. A cancel is not
 * taken back.
 *
 * Returns `done`, `missing`, `ended` or `cancelling`.
 */
export const wantSweepScript = luaScript({
  keys: ['sweep'],
  arguments: ['wanted'],
  lua: /* lua */ `
local before = redis.call('HGET', sweep, 'wanted')
if not before then return 'missing' end
if redis.call('HEXISTS', sweep, 'outcome') == 1 then return 'ended' end
if before == 'cancel' and wanted ~= 'cancel' then return 'cancelling' end
redis.call('HSET', sweep, 'wanted', wanted, 'is_settled', '0')
return 'done'
`,
});

/** Records that all jobs have been asked for what is wanted, unless something else is wanted by now. */
export const settleSweepScript = luaScript({
  keys: ['sweep'],
  arguments: ['wanted'],
  lua: /* lua */ `
if redis.call('HGET', sweep, 'wanted') ~= wanted then return 0 end
redis.call('HSET', sweep, 'is_settled', '1')
return 1
`,
});

/** Writes a field of a sweep once: whoever comes later finds the first value. Returns the value; nil if there is no such sweep. */
export const decideSweepScript = luaScript({
  keys: ['sweep'],
  arguments: ['field', 'value'],
  lua: /* lua */ `
if redis.call('EXISTS', sweep) == 0 then return nil end
redis.call('HSETNX', sweep, field, value)
return redis.call('HGET', sweep, field)
`,
});

/** Removes the record of a sweep that has ended. Returns `done`, `missing` or `active`. */
export const deleteSweepScript = luaScript({
  keys: ['sweep', 'all_sweeps', 'owner_sweeps', 'active_sweeps', 'idempotency'],
  arguments: ['id'],
  lua: /* lua */ `
if redis.call('EXISTS', sweep) == 0 then return 'missing' end
if redis.call('SISMEMBER', active_sweeps, id) == 1 then return 'active' end
redis.call('ZREM', all_sweeps, id)
redis.call('ZREM', owner_sweeps, id)
redis.call('DEL', sweep)
-- The idempotency key may have expired and created another sweep since.
if redis.call('HGET', idempotency, 'sweep') == id then redis.call('DEL', idempotency) end
return 'done'
`,
});
