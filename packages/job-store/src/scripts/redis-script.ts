import { createHash } from 'node:crypto';
import type { Redis } from 'ioredis';

/** A Lua script: Redis runs the whole of it at once, so it is the unit of what cannot be half done. */
export type RedisScript = (redis: Redis, keys: string[], args: (string | number)[]) => Promise<unknown>;

/** Sends the script's digest, and its text only to a server that does not have it yet. */
export function redisScript(lua: string): RedisScript {
  const digest = createHash('sha1').update(lua).digest('hex');
  return async (redis, keys, args) => {
    try {
      return await redis.evalsha(digest, keys.length, ...keys, ...args);
    } catch (error) {
      if (!(error instanceof Error && error.message.startsWith('NOSCRIPT'))) throw error;
      return await redis.eval(lua, keys.length, ...keys, ...args);
    }
  };
}
