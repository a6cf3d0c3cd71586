import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import { cacheDir } from '../../scripts/setup/locations.mjs';
import { findRedis } from '../../scripts/setup/redis-server.mjs';
import { withRedisOf } from '../../scripts/stack/redis.mjs';
import { startStack } from '../../scripts/stack/start-stack.mjs';

const idle = {
  name: 'worker',
  program: fileURLToPath(new URL('fixtures/idle-service.mjs', import.meta.url)),
  readyUrl: () => undefined,
  stopTimeoutMs: 5_000,
};

test('the Redis of a data folder is that of the running stack, or else a new one', async () => {
  const dataDir = await mkdtemp(path.join(tmpdir(), 'lorasmith-redis-of-'));
  // The stack starts its own server, even if the tests use the one of REDIS_URL.
  const { REDIS_URL: _, ...env } = process.env;
  const { source: redis } = await findRedis({ cache: cacheDir(env), env, progress: { update() {} } });
  const run = <Result>(command: (client: Redis) => Promise<Result>) =>
    withRedisOf({ dataDir, redis, env }, async (url) => {
      const client = new Redis(url);
      try {
        return await command(client);
      } finally {
        await client.quit();
      }
    });
  try {
    const stack = await startStack({ dataDir, modelsDir: '/models', env, services: [idle] });
    try {
      await run((client) => client.set('key', 'written while it runs'));
      const own = new Redis(stack.redisUrl);
      expect(await own.get('key')).toBe('written while it runs');
      await own.quit();
    } finally {
      await stack.stop();
    }
    expect(await run((client) => client.get('key'))).toBe('written while it runs');
    // The lock of the folder has been released.
    expect(await run((client) => client.get('key'))).toBe('written while it runs');
  } finally {
    await rm(dataDir, { recursive: true, force: true });
  }
});
