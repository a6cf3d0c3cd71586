import { redisScript } from './redis-script.js';

/**
 * Forbids new jobs on a dataset, unless unfinished ones read it.
 *
 * Keys: the unfinished jobs of the dataset, its deletion. Argument: seconds until new jobs are allowed again, should the
 * deleting process die. Answers the unfinished jobs; where there are none, the deletion has begun.
 */
export const beginDatasetDeletionScript = redisScript(`
local users = redis.call('SMEMBERS', KEYS[1])
if #users == 0 then redis.call('SET', KEYS[2], '1', 'EX', ARGV[1]) end
return users
`);
