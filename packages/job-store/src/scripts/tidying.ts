import { redisScript } from './redis-script.js';

/**
 * Forbids that an ended job is resumed, unless it goes on by now or somebody else has begun.
 *
 * Keys: the record, its tidying. Arguments: the statuses it may have (joined by commas), a token, seconds until it may be
 * resumed again, should the process that tidies die. Answers 1, or 0 where it is forbidden to begin.
 */
export const beginTidyingScript = redisScript(`
local status = redis.call('HGET', KEYS[1], 'status')
if not status or not string.find(',' .. ARGV[1] .. ',', ',' .. status .. ',', 1, true) then return 0 end
if redis.call('SET', KEYS[2], ARGV[2], 'NX', 'EX', ARGV[3]) then return 1 end
return 0
`);

/** Key: the tidying of a job. Arguments: the token it was begun with, seconds. Answers 0 where it is over. */
export const renewTidyingScript = redisScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('EXPIRE', KEYS[1], ARGV[2]) end
return 0
`);

/** Key: the tidying of a job. Argument: the token it was begun with. Allows that the job is resumed again. */
export const endTidyingScript = redisScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
`);
