import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type RealRedis, startOwnRedis } from '../../../test/real-redis.js';
import { luaScript, onRedis } from '../src/index.js';

// A Redis that answers and takes no changes, because it has no space: a 507 that says what to free, not a Redis that is gone.

let server: RealRedis;
let redis: Redis;
beforeAll(async () => {
  server = await startOwnRedis((port) => ['--port', String(port), '--dbfilename', 'occupied.rdb']);
  redis = new Redis(server.url);
});
afterAll(async () => {
  await redis.quit();
  await server.stop();
});

const write = luaScript(import.meta.url, './write.lua', 'write_key');
const writes = [() => redis.set('key', 'value'), () => write(redis, { key: 'key' }, {})];

test('a Redis whose disk takes nothing is storage_full, and reads still work', async () => {
  const [, dir = ''] = (await redis.config('GET', 'dir')) as string[];
  // A snapshot cannot replace a folder of its name.
  await mkdir(path.join(dir, 'occupied.rdb/folder'), { recursive: true });
  await redis.config('SET', 'save', '3600 1');
  await redis.set('key', 'value');
  await redis.call('BGSAVE');
  await expect.poll(() => redis.info('persistence')).toContain('rdb_last_bgsave_status:err');
  for (const run of writes) {
    await expect(onRedis<unknown>(run)).rejects.toMatchObject({
      code: 'storage_full',
      status: 507,
      message: expect.stringMatching(/^Redis cannot write to its disk.*Free some space/),
    });
  }
  // Only this says so without a write.
  await expect(onRedis(() => redis.ping())).rejects.toMatchObject({ code: 'storage_full' });
  expect(await onRedis(() => redis.get('key'))).toBe('value');
  await redis.config('SET', 'save', '');
  expect(await onRedis(() => redis.set('key', 'value'))).toBe('OK');
});

test('a Redis at its limit of memory is storage_full', async () => {
  await redis.config('SET', 'maxmemory', '1');
  for (const run of writes) {
    await expect(onRedis<unknown>(run)).rejects.toMatchObject({
      code: 'storage_full',
      message: expect.stringContaining('maxmemory'),
    });
  }
  await redis.config('SET', 'maxmemory', '0');
});

test('an error of the command itself stays what it is', async () => {
  await redis.set('text', 'value');
  await expect(onRedis(() => redis.lpush('text', 'x'))).rejects.toThrow(/^WRONGTYPE/);
});
