import { RECORD_FUNCTIONS } from './record-keys.js';
import { redisScript } from './redis-script.js';

/**
 * Writes a new record with its first event and its place in every list, unless an idempotency key was used before.
 *
 * Keys: those of the record, then all, sequence, and (only with an idempotency key) idempotency.
 * Arguments: id, channel, request hash, idempotency seconds, then the record's fields and values.
 * Answers `created`, or `conflict`, or the id of the job that the key made before.
 */
export const createJobScript = redisScript(`${RECORD_FUNCTIONS}
local id, channel, hash, seconds = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if KEYS[12] then
  local before = redis.call('HMGET', KEYS[12], 'job', 'hash')
  if before[1] then
    if before[2] == hash then return before[1] else return 'conflict' end
  end
  redis.call('HSET', KEYS[12], 'job', id, 'hash', hash)
  redis.call('EXPIRE', KEYS[12], seconds)
end
local sequence = redis.call('INCR', KEYS[11])
redis.call('HSET', KEYS[1], 'status', 'queued', 'sequence', sequence, 'attempts', 0, unpack(ARGV, 5))
redis.call('ZADD', KEYS[10], sequence, id)
redis.call('ZADD', KEYS[places.queued], sequence, id)
redis.call('SADD', KEYS[3], id)
append(id, channel, 'job-queued', '{}')
return 'created'
`);
