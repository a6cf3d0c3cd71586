import { RECORD_FUNCTIONS } from './record-keys.js';
import { redisScript } from './redis-script.js';

/**
 * Puts a failed or cancelled job back among the waiting, unless there are as many jobs as may be, its dataset is being
 * deleted, or what it left is being removed. Of two calls at once one finds it ended and the other finds it waiting.
 *
 * Keys: those of the record, then the owner's jobs, the dataset's deletion, its tidying. Arguments: id, channel, most
 * waiting jobs, most unfinished jobs of the owner ('' for no limit). Answers `done`, `missing`, `tidied`, `no-dataset`,
 * `queue-full`, `owner-full`, or the status that does not allow it.
 */
export const resumeJobScript = redisScript(`${RECORD_FUNCTIONS}
local id, channel, most_waiting, most_of_owner = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return 'missing' end
if status ~= 'failed' and status ~= 'cancelled' then return status end
if redis.call('EXISTS', KEYS[13]) == 1 then return 'tidied' end
-- Publishing a checkpoint reads no dataset.
if redis.call('HGET', KEYS[1], 'kind') == 'train' and redis.call('EXISTS', KEYS[12]) == 1 then return 'no-dataset' end
local full = fullness(KEYS[11], most_waiting, most_of_owner)
if full then return full end
move(id, 'queued')
redis.call('SADD', KEYS[3], id)
reserve(id)
redis.call('HDEL', KEYS[1], 'error', 'ended_at', 'cancel_requested_at', 'publishing', 'attempt_token', 'released_token')
redis.call('HINCRBY', KEYS[1], 'resumes', 1)
append(id, channel, 'job-resumed', '{}')
return 'done'
`);
