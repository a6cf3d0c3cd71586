import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { SetupError } from '../setup/setup-error.mjs';
import { lockDataDir } from './data-dir-lock.mjs';
import { startEmbeddedRedis } from './embedded-redis.mjs';

const STOP_TIMEOUT_MS = 15_000;

/**
 * Calls `run` with the Redis of a data folder: that of a running stack, or else one that is started for this call and stopped
 * afterwards.
 *
 * @template Result
 * @param {{ dataDir: string, redis: import('../setup/redis-server.mjs').RedisSource, env: NodeJS.ProcessEnv }} options
 * @param {(redisUrl: string) => Promise<Result>} run
 * @returns {Promise<Result>}
 * @throws {SetupError}
 */
export async function withRedisOf({ dataDir, redis, env }, run) {
  if ('url' in redis) return await run(redis.url);
  const unlock = await lockDataDir(dataDir).catch((error) => {
    if (error instanceof SetupError && error.message.includes('is in use by')) return undefined;
    throw error;
  });
  if (!unlock) return await run(await addressInUse(dataDir));
  try {
    const { url, process: server } = await startEmbeddedRedis({ serverFile: redis.serverFile, dataDir, env });
    try {
      return await run(url);
    } finally {
      await server.stop(STOP_TIMEOUT_MS);
    }
  } finally {
    await unlock();
  }
}

/** Reads the address of a running stack's Redis from the configuration that the stack wrote. @param {string} dataDir */
async function addressInUse(dataDir) {
  const file = path.join(dataDir, 'redis', 'redis.conf');
  const text = await readFile(file, 'utf8').catch(() => '');
  const port = /^port (\d+)$/m.exec(text)?.[1];
  const password = /^requirepass (\S+)$/m.exec(text)?.[1];
  if (port && password) return `redis://:${password}@127.0.0.1:${port}`;
  throw new SetupError(
    `the stack that uses ${dataDir} uses its own Redis, whose address is not in ${file}`,
    'set REDIS_URL to that Redis.',
  );
}
