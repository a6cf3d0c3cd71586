import { pino } from 'pino';
import { afterEach, expect, test } from 'vitest';
import { absentRedisUrl, startRealRedis } from '../../../test/real-redis.js';
import { connectRedis, redisReady } from './index.js';

const logger = pino({ level: 'silent' });
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

test('a fail-fast connection to an absent Redis fails each command at once', async () => {
  const redis = connectRedis({ url: await absentRedisUrl(), whenUnavailable: 'fail-fast', name: 'test', logger });
  cleanups.push(() => redis.disconnect());
  expect(await redisReady(redis, 50)).toBe(false);
  // Not by its time-out.
  await expect(redis.get('key')).rejects.toThrow('enableOfflineQueue');
});

test('a waiting connection does the command once Redis is there', async () => {
  const server = await startRealRedis();
  cleanups.push(() => server.stop());
  const redis = connectRedis({ url: server.url, whenUnavailable: 'wait', name: 'test', logger });
  cleanups.push(() => redis.disconnect());
  expect(await redis.set(`${server.prefix}key`, 'value')).toBe('OK');
  expect(await redisReady(redis, 1000)).toBe(true);
});
