import { RECORD_FUNCTIONS } from './record-keys.js';
import { redisScript } from './redis-script.js';

/**
 * Changes a record: status, fields and the events that tell of it.
 *
 * Arguments: id, channel, token ('' for anyone), statuses it may come from (joined by commas), status it goes to ('' to
 * stay), `heed-cancel` or '' (whether a requested cancel forbids it), number of fields, fields and values, then events
 * (type and data). Answers `done`, `missing`, `stale` (another attempt has the job), `cancel-requested`, or the status
 * that does not allow it. A release that is sent again, because its reply was lost, is `done` again.
 */
export const updateJobScript = redisScript(`${RECORD_FUNCTIONS}
local id, channel, token, from, to, cancel = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return 'missing' end
if token ~= '' and redis.call('HGET', KEYS[1], 'attempt_token') ~= token then
  if status == to and redis.call('HGET', KEYS[1], 'released_token') == token then return 'done' end
  return 'stale'
end
if not string.find(',' .. from .. ',', ',' .. status .. ',', 1, true) then return status end
if cancel == 'heed-cancel' and redis.call('HEXISTS', KEYS[1], 'cancel_requested_at') == 1 then
  return 'cancel-requested'
end
if to ~= '' and to ~= status then move(id, to) end
local events = 8 + 2 * tonumber(ARGV[7])
for i = 8, events - 1, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
for i = events, #ARGV, 2 do append(id, channel, ARGV[i], ARGV[i + 1]) end
return 'done'
`);
