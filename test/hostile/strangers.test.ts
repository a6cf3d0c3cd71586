import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, stat } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { availablePort } from '../../scripts/stack/ports.mjs';
import { SERVICE_PROGRAMS } from '../../scripts/stack/service-programs.mjs';
import { adapterTarOf, type HostileStack, startHostileStack } from './hostile-stack.js';

// Another user of this machine, without a key, asks each port that `npm start` opens. So does a page under a name that points to
// this machine (DNS rebinding).

let stack: HostileStack;
beforeAll(async () => {
  stack = await startHostileStack({}, 'train');
});
afterAll(() => stack?.stop());

interface Sent {
  method?: string;
  headers?: Record<string, string>;
  body?: Buffer;
}

async function statusOf(address: string, { method = 'GET', headers = {}, body }: Sent = {}): Promise<number> {
  const request = httpRequest(address, { method, headers });
  request.end(body);
  const [response] = await once(request, 'response');
  response.resume();
  await once(response, 'end');
  return response.statusCode;
}

/** Calls that a stranger may try: to list, read, delete, import, and to say whose caller it is. */
const CALLS: [method: string, path: string, headers: Record<string, string>][] = [
  ['GET', '/adapters', {}],
  ['GET', '/adapters', { 'x-lorasmith-sees': 'all', 'x-lorasmith-owner': '' }],
  ['GET', '/adapters', { 'x-lorasmith-secret': '' }],
  ['GET', '/adapters', { 'x-lorasmith-secret': 'a'.repeat(64) }],
  ['GET', '/adapters', { 'x-lorasmith-secret': 'null' }],
  ['GET', '/adapters', { authorization: 'Bearer lsk_1' }],
  ['GET', '/usage', {}],
  ['GET', '/adapters/:adapter', {}],
  ['HEAD', '/adapters/:adapter', {}],
  ['GET', '/adapters/:adapter/manifest', {}],
  ['GET', '/adapters/:adapter/files', {}],
  ['GET', '/adapters/:adapter/files/adapter_model.safetensors', {}],
  ['DELETE', '/adapters/:adapter', {}],
  ['POST', '/adapters?base_model=tiny-llama', { 'content-type': 'application/x-tar' }],
];

describe('the registry', () => {
  test.each(CALLS)('refuses %s %s of a stranger with %j', async (method, target, headers) => {
    const address = `${stack.registryUrl}${target.replace(':adapter', stack.adapter)}`;
    const body = method === 'POST' ? { body: adapterTarOf(stack) } : {};
    expect(await statusOf(address, { method, headers, ...body })).toBe(401);
    const answered = { authorization: `Bearer ${stack.token}` };
    expect(await statusOf(`${stack.apiUrl}/adapters/${stack.adapter}/manifest`, { headers: answered })).toBe(200);
  });

  test('answers a supervisor, but no page under another name', async () => {
    for (const target of ['/live', '/ready', '/metrics']) {
      expect([target, await statusOf(`${stack.registryUrl}${target}`)]).toEqual([target, 200]);
      const rebound = { headers: { host: 'rebound.example' } };
      expect([target, await statusOf(`${stack.registryUrl}${target}`, rebound)]).toEqual([target, 403]);
    }
  });
});

test('the api refuses a stranger on every route that names things', async () => {
  for (const target of ['/jobs', '/datasets', '/adapters', `/adapters/${stack.adapter}`, '/metrics', '/v1/models']) {
    expect([target, await statusOf(`${stack.apiUrl}${target}`)]).toEqual([target, 401]);
  }
});

test('many wrong keys under long addresses leave a short log', async () => {
  const logged = async () => {
    const logs = path.join(stack.root, 'data/logs');
    const sizes = (await readdir(logs)).map(async (name) => (await stat(path.join(logs, name))).size);
    return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
  };
  const before = await logged();
  for (let i = 0; i < 200; i++) {
    const calls = Array.from({ length: 5 }, () => `/jobs?x=${'y'.repeat(10_000)}`).map((target) =>
      statusOf(`${stack.apiUrl}${target}`, { headers: { authorization: `Bearer lsk_${i}` } }),
    );
    expect(await Promise.all(calls)).toEqual(calls.map(() => 401));
  }
  // Ten megabytes of addresses.
  expect((await logged()) - before).toBeLessThan(200_000);
});

test('Redis refuses a stranger', async () => {
  const socket = connect(Number(new URL(stack.redisUrl).port), '127.0.0.1');
  socket.end('KEYS *\r\nCONFIG GET requirepass\r\n');
  let answer = '';
  socket.on('data', (chunk) => {
    answer += chunk.toString();
  });
  await once(socket, 'close');
  expect(answer).toBe('-NOAUTH Authentication required.\r\n'.repeat(2));
});

test('the data folder is for its user alone', async () => {
  for (const folder of ['.', '.registry-token', 'redis/redis.conf']) {
    const { mode } = await stat(path.join(stack.root, 'data', folder));
    expect([folder, mode & 0o077]).toEqual([folder, 0]);
  }
});

test("the worker's port answers no page under another name", async () => {
  const { program } = SERVICE_PROGRAMS.find(({ name }) => name === 'worker')!;
  const port = await availablePort('127.0.0.1', 0, '');
  const worker = spawn(process.execPath, [program], {
    env: {
      ...process.env,
      DATA_DIR: path.join(stack.root, 'data'),
      MODELS_DIR: stack.modelsDir,
      REDIS_URL: stack.redisUrl,
      WORKER_HEALTH_PORT: String(port),
      DEVICE: 'cpu',
    },
    stdio: 'ignore',
  });
  const address = `http://127.0.0.1:${port}/live`;
  try {
    await expect.poll(() => statusOf(address).catch(() => 0), { timeout: 120_000 }).toBe(200);
    expect(await statusOf(address, { headers: { host: 'rebound.example' } })).toBe(403);
  } finally {
    worker.kill('SIGKILL');
    await once(worker, 'exit');
  }
});
