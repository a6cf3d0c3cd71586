import { RECORD_FUNCTIONS } from './record-keys.js';
import { redisScript } from './redis-script.js';

/**
 * Writes a new record with its first event and its place in every list, unless an idempotency key was used before or
 * there are as many jobs as may be, or the dataset is being deleted.
 *
 * Keys: those of the record, then all, sequence, the owner's jobs, the dataset's deletion, and (only with an idempotency key) idempotency.
 * Arguments: id, channel, request hash, idempotency seconds, most waiting jobs, most unfinished jobs of the owner ('' for
 * no limit), whether it reads the dataset (1 or ''), then the record's fields and values.
 * Answers `created`, `conflict`, `no-dataset`, `queue-full`, `owner-full`, or the id of the job that the key made before.
 */
export const createJobScript = redisScript(`${RECORD_FUNCTIONS}
local id, channel, hash, seconds = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local most_waiting, most_of_owner = tonumber(ARGV[5]), tonumber(ARGV[6])
if KEYS[15] then
  local before = redis.call('HMGET', KEYS[15], 'job', 'hash')
  if before[1] then
    if before[2] == hash then return before[1] else return 'conflict' end
  end
end
if ARGV[7] == '1' and redis.call('EXISTS', KEYS[14]) == 1 then return 'no-dataset' end
local full = fullness(KEYS[13], most_waiting, most_of_owner)
if full then return full end
if KEYS[15] then
  redis.call('HSET', KEYS[15], 'job', id, 'hash', hash)
  redis.call('EXPIRE', KEYS[15], seconds)
end
local sequence = redis.call('INCR', KEYS[12])
redis.call('HSET', KEYS[1], 'status', 'queued', 'sequence', sequence, 'attempts', 0, 'resumes', 0, unpack(ARGV, 8))
redis.call('ZADD', KEYS[11], sequence, id)
redis.call('ZADD', KEYS[13], sequence, id)
redis.call('ZADD', KEYS[places.queued], sequence, id)
redis.call('SADD', KEYS[3], id)
reserve(id)
append(id, channel, 'job-queued', '{}')
return 'created'
`);
