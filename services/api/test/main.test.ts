import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import type { Job, Paged } from '@lorasmith/contracts';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { absentRedisUrl, startRealRedis } from '../../../test/real-redis.js';
import { HAS_ALL_CASES } from '../../../test/usual-cases.js';
import { jsonOf } from './json-of.js';

// The compiled process, as it is deployed.
const MAIN = fileURLToPath(new URL('../dist/main.js', import.meta.url));
const KEYS = fileURLToPath(new URL('../dist/keys.js', import.meta.url));

let folder: string;
let service: ChildProcess | undefined;
beforeEach(async () => {
  if (!existsSync(MAIN)) throw new Error(`${MAIN} is not built: run "pnpm build" first`);
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-api-main-'));
});
afterEach(async () => {
  service?.kill('SIGKILL');
  await rm(folder, { recursive: true, force: true });
});

function start(environment: Record<string, string>): ChildProcess {
  service = spawn(process.execPath, [MAIN], {
    env: { PATH: process.env.PATH, DATA_DIR: `${folder}/data`, MODELS_DIR: folder, API_PORT: '0', ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  return service;
}

async function addressOf(child: ChildProcess): Promise<string> {
  for await (const line of createInterface(child.stdout!)) {
    const address = (JSON.parse(line).msg as string).match(/listening at (http:.*)/)?.[1];
    if (address !== undefined) return address;
  }
  throw new Error('it did not listen');
}

test('the api serves requests, and shuts down gracefully on SIGTERM', async () => {
  const redis = await startRealRedis();
  const child = start({ REDIS_URL: redis.url, REDIS_PREFIX: redis.prefix });
  const url = await addressOf(child);
  expect((await jsonOf<Paged<Job>>(await fetch(`${url}/jobs`))).data).toEqual([]);
  expect((await fetch(`${url}/docs`)).status).toBe(200);
  expect((await jsonOf<{ openapi: string }>(await fetch(`${url}/openapi.json`))).openapi).toBe('3.1.0');
  child.kill('SIGTERM');
  expect(await once(child, 'exit')).toEqual([0, null]);
  await redis.stop();
});

test.runIf(HAS_ALL_CASES)('the api starts without Redis, and /ready reports that', async () => {
  const child = start({ REDIS_URL: await absentRedisUrl() });
  const url = await addressOf(child);
  expect((await fetch(`${url}/live`)).status).toBe(200);
  expect((await jsonOf(await fetch(`${url}/ready`))).error.details.map(({ param }) => param)).toContain('redis');
});

test('an invalid environment ends it before it listens, with every fault', async () => {
  const child = start({ API_PORT: 'http', API_HOST: 'a host', REGISTRY_URL: 'somewhere' });
  const output = text(child.stderr!);
  expect(await once(child, 'exit')).toEqual([78, null]);
  expect(await output).toMatch(/API_HOST "a host": .*; for instance API_HOST=127\.0\.0\.1/);
  expect(await output).toMatch(/API_PORT "http": .*; for instance API_PORT=8080/);
  expect(await output).toMatch(/REGISTRY_URL "somewhere": /);
});

function makeKey(environment: Record<string, string>, ...more: string[]): string {
  const args = [KEYS, 'create', '--name', 'a name', '--role', 'admin', '--json', ...more];
  const { status, stdout } = spawnSync(process.execPath, args, { env: environment, encoding: 'utf8' });
  expect(status).toBe(0);
  return (JSON.parse(stdout) as { token: string }).token;
}

test('the api serves other machines only once there is a key', async () => {
  const redis = await startRealRedis();
  const environment = { REDIS_URL: redis.url, REDIS_PREFIX: redis.prefix };
  try {
    for (const place of [{ API_HOST: '0.0.0.0' }, { API_HOST: '0.0.0.0', API_PUBLISHED_HOST: '192.0.2.1' }]) {
      const refused = start({ ...environment, ...place });
      const output = text(refused.stderr!);
      expect(await once(refused, 'exit')).toEqual([78, null]);
      expect(await output).toMatch(/other machines can reach this address, and there is no API key/);
    }
    // As in a container whose port is published on the loopback.
    const contained = start({ ...environment, API_HOST: '0.0.0.0', API_PUBLISHED_HOST: '127.0.0.1' });
    const open = `http://127.0.0.1:${new URL(await addressOf(contained)).port}`;
    expect((await fetch(`${open}/jobs`)).status).toBe(200);
    const token = makeKey(environment);
    // On the next call, without a restart.
    expect((await fetch(`${open}/jobs`)).status).toBe(401);
    contained.kill('SIGTERM');
    await once(contained, 'exit');

    const child = start({ ...environment, API_HOST: '0.0.0.0' });
    const url = `http://127.0.0.1:${new URL(await addressOf(child)).port}`;
    expect((await fetch(`${url}/jobs`)).status).toBe(401);
    expect((await fetch(`${url}/jobs`, { headers: { authorization: `Bearer ${token}` } })).status).toBe(200);
    expect((await fetch(`${url}/live`)).status).toBe(200);
  } finally {
    await redis.stop();
  }
});

test.runIf(HAS_ALL_CASES)(
  'while the api cannot check whether there are keys, it does not serve other machines',
  async () => {
    const child = start({ REDIS_URL: await absentRedisUrl(), API_HOST: '0.0.0.0' });
    const url = `http://127.0.0.1:${new URL(await addressOf(child)).port}`;
    expect((await fetch(`${url}/live`)).status).toBe(200);
    expect((await fetch(`${url}/datasets`)).status).toBe(503);
  },
);
