import { luaScript } from './lua-script.js';
import { RECORD_PART } from './record-part.js';

/**
 * Gives an unfinished job to the worker that received it from BullMQ. From here on only the new token may write to the
 * record; the worker that had the job before has lost it.
 *
 * `expected_resumes` is how often the job had been resumed when it was queued ('' for any). `worker` is JSON. Answers the
 * number of the attempt, or `missing`, `resumed` (the job has a newer queue entry), `cancelled` (a requested cancel is now
 * done), or the status the job ended with.
 */
export const startAttemptScript = luaScript(
  {
    keys: [],
    arguments: ['token', 'worker', 'now', 'expected_resumes'],
    lua: `
local status, resumes = unpack(redis.call('HMGET', record, 'status', 'resumes'))
if not status then return 'missing' end
if expected_resumes ~= '' and resumes ~= expected_resumes then return 'resumed' end
if is_ended[status] then return status end
if redis.call('HEXISTS', record, 'cancel_requested_at') == 1 then
  move('cancelled')
  redis.call('HSET', record, 'ended_at', now)
  append_event('job-cancelled', '{}')
  return 'cancelled'
end
move('preparing')
local attempt = redis.call('HINCRBY', record, 'attempts', 1)
redis.call('HSET', record, 'attempt_token', token)
redis.call('HSETNX', record, 'started_at', now)
redis.call('HDEL', record, 'publishing')
append_event('job-started', '{"attempt":' .. attempt .. ',"worker":' .. worker .. '}')
return attempt
`,
  },
  RECORD_PART,
);
