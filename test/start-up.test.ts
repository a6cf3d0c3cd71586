import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type RealRedis, startOwnRedis } from './real-redis.js';

// Errors that prevent a compiled service from starting: each prints one line, and the exit code shows that a restart will not
// help.

const SERVICES = ['api', 'registry', 'worker'] as const;
const PORTS = { api: 'API_PORT', registry: 'REGISTRY_PORT', worker: 'WORKER_HEALTH_PORT' };
const main = (service: string) => fileURLToPath(new URL(`../services/${service}/dist/main.js`, import.meta.url));

let folder: string;
let server: RealRedis;
let redis: Redis;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-start-up-'));
  await mkdir(path.join(folder, 'models'));
  await writeFile(path.join(folder, 'a-file'), '');
  server = await startOwnRedis();
  redis = new Redis(server.url);
});
afterAll(async () => {
  redis.disconnect();
  await server.stop();
  await rm(folder, { recursive: true, force: true });
});

/** Runs a service until it ends by itself. */
async function ending(service: string, environment: Record<string, string>) {
  const child = spawn(process.execPath, [main(service)], {
    env: {
      PATH: process.env.PATH,
      DATA_DIR: path.join(folder, `data-${service}`),
      MODELS_DIR: path.join(folder, 'models'),
      REDIS_URL: server.url,
      REDIS_PREFIX: server.prefix,
      API_PORT: '0',
      REGISTRY_PORT: '0',
      DEVICE: 'cpu',
      ...environment,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 200_000,
    killSignal: 'SIGKILL',
  });
  const [output, errors, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'exit')]);
  return { code, errors, lines: output.split('\n').filter(Boolean) };
}

describe.each(SERVICES)('the %s', (service) => {
  test('refuses a data folder that is not writable', async () => {
    const { code, errors, lines } = await ending(service, { DATA_DIR: path.join(folder, 'a-file/data') });
    expect([code, lines]).toEqual([78, []]);
    expect(errors).toMatch(/^DATA_DIR ".*\/a-file\/data" is not writable.*set another folder\.\n$/);
  });

  test('refuses a port in use, and warns about an empty models folder', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as { port: number };
    const { code, errors, lines } = await ending(service, { [PORTS[service]]: String(port) });
    other.close();
    expect(code).toBe(78);
    expect(errors).toMatch(new RegExp(`^${PORTS[service]} ${port}: another program listens on this port .*\\n$`));
    expect(lines.join()).toContain('MODELS_DIR contains no base model');
  });
});

describe('a Redis that evicts', () => {
  beforeAll(async () => {
    await redis.config('SET', 'maxmemory', '100mb');
    await redis.config('SET', 'maxmemory-policy', 'allkeys-lru');
  });
  afterAll(async () => {
    await redis.config('SET', 'maxmemory', '0');
    await redis.config('SET', 'maxmemory-policy', 'noeviction');
  });

  test.each(['api', 'worker'])('is refused by the %s', async (service) => {
    const { code, errors } = await ending(service, {});
    expect(code).toBe(78);
    expect(errors).toMatch(
      /^REDIS_URL: this Redis evicts keys .*allkeys-lru.*CONFIG SET maxmemory-policy noeviction.*\n$/,
    );
  });
});
