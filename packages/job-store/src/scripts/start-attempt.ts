import { RECORD_FUNCTIONS } from './record-keys.js';
import { redisScript } from './redis-script.js';

/**
 * Gives an unfinished job to the worker that BullMQ gave it to. From here on only who has the new token may write;
 * whoever held the job before has lost it.
 *
 * Arguments: id, channel, token, worker as JSON, now, how often the job was resumed when it was put into the queue ('' for
 * any). Answers the attempt's number, or `missing`, or `resumed` (another entry of the queue is for it since), or
 * `cancelled` (its cancel was waiting for a worker and is now done), or the status it ended with.
 */
export const startAttemptScript = redisScript(`${RECORD_FUNCTIONS}
local id, channel, token, worker, now = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local resumes = ARGV[6]
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return 'missing' end
if resumes ~= '' and redis.call('HGET', KEYS[1], 'resumes') ~= resumes then return 'resumed' end
if ended[status] then return status end
if redis.call('HEXISTS', KEYS[1], 'cancel_requested_at') == 1 then
  move(id, 'cancelled')
  redis.call('HSET', KEYS[1], 'ended_at', now)
  append(id, channel, 'job-cancelled', '{}')
  return 'cancelled'
end
move(id, 'preparing')
local number = redis.call('HINCRBY', KEYS[1], 'attempts', 1)
redis.call('HSET', KEYS[1], 'attempt_token', token)
redis.call('HSETNX', KEYS[1], 'started_at', now)
redis.call('HDEL', KEYS[1], 'publishing')
append(id, channel, 'job-started', '{"attempt":' .. number .. ',"worker":' .. worker .. '}')
return number
`);
