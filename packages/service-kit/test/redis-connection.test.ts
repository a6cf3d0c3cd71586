import { pino } from 'pino';
import { afterEach, expect, test } from 'vitest';
import { absentRedisUrl, startRealRedis } from '../../../test/real-redis.js';
import { connectRedis, redisReady } from '../src/index.js';

const logger = pino({ level: 'silent' });
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

test('a fail-fast connection to an unavailable Redis fails each command at once', async () => {
  const redis = connectRedis({ url: await absentRedisUrl(), whenUnavailable: 'fail-fast', name: 'test', logger });
  cleanups.push(() => redis.disconnect());
  expect(await redisReady(redis, 50)).toBe(false);
  // Sooner than its timeout.
  await expect(redis.get('key')).rejects.toThrow('enableOfflineQueue');
});

test('a waiting connection runs the command once Redis is available', async () => {
  const server = await startRealRedis();
  cleanups.push(() => server.stop());
  const redis = connectRedis({ url: server.url, whenUnavailable: 'wait', name: 'test', logger });
  cleanups.push(() => redis.disconnect());
  expect(await redis.set(`${server.prefix}key`, 'value')).toBe('OK');
  expect(await redisReady(redis, 1000)).toBe(true);
});
