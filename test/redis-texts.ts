import type { Redis } from 'ioredis';

const READ: Readonly<Record<string, (redis: Redis, key: string) => Promise<unknown>>> = {
  string: (redis, key) => redis.get(key),
  hash: (redis, key) => redis.hgetall(key),
  list: (redis, key) => redis.lrange(key, 0, '-1'),
  set: (redis, key) => redis.smembers(key),
  zset: (redis, key) => redis.zrange(key, 0, '-1'),
  stream: (redis, key) => redis.xrange(key, '-', '+'),
};

/** The keys that match a pattern with their values, each as text, to look for what must not be there. */
export async function redisTexts(redis: Redis, pattern: string): Promise<string[]> {
  const texts: string[] = [];
  for (const key of await redis.keys(pattern)) {
    const type = await redis.type(key);
    const read = READ[type];
    if (read === undefined) throw new Error(`${key} has the type ${type}, which is not read`);
    texts.push(`${key} ${JSON.stringify(await read(redis, key))}`);
  }
  return texts;
}
