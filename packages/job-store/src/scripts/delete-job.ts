import { RECORD_FUNCTIONS } from './record-keys.js';
import { redisScript } from './redis-script.js';

/**
 * Removes an ended job with its events.
 *
 * Keys: those of the record, then all, the owner's jobs, and (only if it was made with one) idempotency. Argument: id.
 * Answers `done`, `missing` or `active`.
 */
export const deleteJobScript = redisScript(`${RECORD_FUNCTIONS}
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return 'missing' end
if not ended[status] then return 'active' end
redis.call('ZREM', KEYS[places[status]], ARGV[1])
redis.call('ZREM', KEYS[11], ARGV[1])
redis.call('ZREM', KEYS[12], ARGV[1])
redis.call('DEL', KEYS[1], KEYS[2])
-- The key may have expired and made another job since.
if KEYS[13] and redis.call('HGET', KEYS[13], 'job') == ARGV[1] then redis.call('DEL', KEYS[13]) end
return 'done'
`);
