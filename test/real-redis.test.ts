import { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import { startRealRedis } from './real-redis.js';

test('a real Redis stores keys, and removes them when it is stopped', async () => {
  const server = await startRealRedis();
  const redis = new Redis(server.url);
  await redis.set(`${server.prefix}greeting`, 'hello');
  expect(await redis.get(`${server.prefix}greeting`)).toBe('hello');
  await redis.quit();
  await server.stop();

  const again = await startRealRedis();
  const other = new Redis(again.url);
  expect(await other.keys(`${server.prefix}*`)).toEqual([]);
  await other.quit();
  await again.stop();
});
