import { luaScript } from './lua-script.js';
import { RECORD_PART } from './record-part.js';

/**
 * Cancels a waiting job at once, and asks the worker of a running one to cancel it. A worker that takes the job at the
 * same moment does so before or after all of this.
 *
 * Answers `cancelled` (by this call), `requested`, `publishing`, `ended` (it had ended before), or `missing`.
 */
export const requestCancelScript = luaScript(
  {
    keys: [],
    arguments: ['now'],
    lua: `
local status = redis.call('HGET', record, 'status')
if not status then return 'missing' end
if is_ended[status] then return 'ended' end
if status == 'queued' then
  move('cancelled')
  redis.call('HSET', record, 'ended_at', now)
  append_event('job-cancelled', '{}')
  return 'cancelled'
end
if redis.call('HEXISTS', record, 'publishing') == 1 then return 'publishing' end
redis.call('HSETNX', record, 'cancel_requested_at', now)
return 'requested'
`,
  },
  RECORD_PART,
);
