import { once } from 'node:events';
import { createServer } from 'node:net';
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

test('a command behind many others is answered, although it waits longer than a silent Redis may take', async () => {
  const server = await startRealRedis();
  cleanups.push(() => server.stop());
  const redis = connectRedis({ url: server.url, whenUnavailable: 'fail-fast', name: 'test', logger });
  cleanups.push(() => redis.disconnect());
  await redisReady(redis, 60_000);
  // As an api that works on a thousand answers at once: each reply is read after those before it, 8 s in all.
  const text = 'x'.repeat(100_000);
  await redis.set(`${server.prefix}key`, text);
  const replies = Array.from({ length: 400 }, async () => {
    const reply = await redis.get(`${server.prefix}key`);
    const end = performance.now() + 20;
    while (performance.now() < end);
    return reply;
  });
  expect(new Set(await Promise.all(replies))).toEqual(new Set([text]));
});

test('a Redis that is silent fails the commands that wait for it', async () => {
  const server = createServer((socket) => socket.on('data', () => {})).listen(0, '127.0.0.1');
  cleanups.push(() => server.close());
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  const url = `redis://127.0.0.1:${port}`;
  const redis = connectRedis({ url, whenUnavailable: 'fail-fast', name: 'test', logger });
  cleanups.push(() => redis.disconnect());
  const errors: Error[] = [];
  redis.on('error', (error) => errors.push(error));
  // The check of the connection itself is the command that waits.
  await expect.poll(() => errors.map(({ message }) => message).join()).toMatch(/didn't receive any/);
  await expect(redis.get('key')).rejects.toThrow();
});
