import { RECORD_FUNCTIONS } from './record-keys.js';
import { redisScript } from './redis-script.js';

/**
 * Cancels a waiting job at once; asks the worker of a job that runs. A worker that takes the job in the same moment
 * comes before or after the whole of this.
 *
 * Arguments: id, channel, now. Answers `cancelled` (it is now), `requested`, `publishing`, `missing`, or
 * `ended` (it was before).
 */
export const requestCancelScript = redisScript(`${RECORD_FUNCTIONS}
local id, channel, now = ARGV[1], ARGV[2], ARGV[3]
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return 'missing' end
if ended[status] then return 'ended' end
if status == 'queued' then
  move(id, 'cancelled')
  redis.call('HSET', KEYS[1], 'ended_at', now)
  append(id, channel, 'job-cancelled', '{}')
  return 'cancelled'
end
if redis.call('HEXISTS', KEYS[1], 'publishing') == 1 then return 'publishing' end
redis.call('HSETNX', KEYS[1], 'cancel_requested_at', now)
return 'requested'
`);
