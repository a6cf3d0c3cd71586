import { mkdir, rm } from 'node:fs/promises';
import { Redis } from 'ioredis';
import { cacheDir } from '../../../scripts/setup/locations.mjs';
import { findRedis } from '../../../scripts/setup/redis-server.mjs';
import { type ManagedProcess, startProcess } from '../../../scripts/stack/managed-process.mjs';
import { availablePort } from '../../../scripts/stack/ports.mjs';
import { eventually } from './eventually.js';
import { childrenOf } from './processes.js';

const GUARD = new URL('../../../scripts/stack/redis-guard.mjs', import.meta.url).pathname;

/** A Redis that tests may kill, with the settings of the product's own stack. It keeps its port. */
export interface RedisUnderFault {
  url: string;
  port: number;
  /** SIGKILL to the server. */
  kill(): Promise<void>;
  /** Starts it again, with its append-only file or empty. */
  start(options?: { withData?: boolean }): Promise<void>;
  stop(): Promise<void>;
}

export async function startRedisUnderFault(options: {
  folder: string;
  logFile: string;
  env: NodeJS.ProcessEnv;
}): Promise<RedisUnderFault> {
  const serverFile = await ownServerFile();
  const port = await availablePort('127.0.0.1', 0, 'REDIS_URL');
  const url = `redis://127.0.0.1:${port}`;
  let server: ManagedProcess | undefined;

  const start = async ({ withData = true } = {}) => {
    if (!withData) await rm(options.folder, { recursive: true, force: true });
    await mkdir(options.folder, { recursive: true });
    const settings = ['--port', String(port), '--bind', '127.0.0.1', '--dir', options.folder, '--save', ''];
    const durable = ['--appendonly', 'yes', '--appendfsync', 'everysec', '--maxmemory-policy', 'noeviction'];
    const args = [serverFile, ...settings, ...durable];
    server = startProcess({ name: 'redis', program: GUARD, args, env: options.env, logFile: options.logFile });
    await eventually('Redis answers', () => answers(url));
  };
  await start();
  return {
    url,
    port,
    async kill() {
      const [child] = await childrenOf(server?.pid ?? 0);
      if (child === undefined) throw new Error('there is no Redis to kill');
      process.kill(child, 'SIGKILL');
      await server?.exited;
    },
    start,
    stop: async () => await server?.stop(10_000),
  };
}

/** Ignores REDIS_URL, because the tests kill the server. */
async function ownServerFile(): Promise<string> {
  const { REDIS_URL: _, ...env } = process.env;
  const { source } = await findRedis({ cache: cacheDir(env), env, progress: { update() {} } });
  if (!('serverFile' in source)) throw new Error('set-up found no Redis server to start');
  return source.serverFile;
}

async function answers(url: string): Promise<boolean> {
  const redis = new Redis(url, { lazyConnect: true, retryStrategy: () => null, maxRetriesPerRequest: 0 });
  redis.on('error', () => {});
  try {
    await redis.connect();
    return (await redis.ping()) === 'PONG';
  } catch {
    return false;
  } finally {
    redis.disconnect();
  }
}
