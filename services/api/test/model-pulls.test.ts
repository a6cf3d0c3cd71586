import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ModelPull } from '@lorasmith/contracts';
import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { filesOf, type HubServer, hubRepo, startHubServer } from '../../../test/hub-server.js';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { writeTinyLlama } from '../../../test/tiny-llama.js';
import { createAccess, OPEN_ACCESS } from '../src/access/access.js';
import { KeyStore } from '../src/access/key-store.js';
import { type RealApi, startRealApi } from './real-api.js';

// The api, the compiled puller as a process of its own, a real Redis, and a server that speaks the hub's paths.

const PULLER = fileURLToPath(new URL('../dist/puller.js', import.meta.url));
const REPO = 'org/tiny-copy';
const TOKEN = 'hf_aSecretTokenOfTheTest';

let server: RealRedis;
let redis: Redis;
let hub: HubServer;
let api: RealApi;
let prefix: string;
let runs = 0;
let puller: { child: ChildProcess; log: string } | undefined;

beforeAll(async () => {
  if (!existsSync(PULLER)) throw new Error(`${PULLER} is not built: run "pnpm build" first`);
  server = await startRealRedis();
  redis = new Redis(server.url);
});
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});
beforeEach(async () => {
  prefix = `${server.prefix}${runs++}:`;
  hub = await startHubServer();
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-tiny-'));
  await writeTinyLlama(folder);
  hub.repos.set(REPO, hubRepo(await filesOf(folder), { token: TOKEN, gated: true }));
  await rm(folder, { recursive: true });
  api = await startRealApi({ redisUrl: server.url, prefix });
});
afterEach(async () => {
  hub.release();
  puller?.child.kill('SIGKILL');
  puller = undefined;
  await api.stop();
  await hub.stop();
});

async function startPuller(settings: Record<string, string> = {}) {
  const child = spawn(process.execPath, [PULLER], {
    env: {
      PATH: process.env.PATH,
      DATA_DIR: path.join(api.folder, 'puller-data'),
      MODELS_DIR: path.join(api.folder, 'models'),
      REDIS_URL: server.url,
      REDIS_PREFIX: prefix,
      LOG_LEVEL: 'trace',
      HF_ENDPOINT: hub.url,
      HF_TOKEN: TOKEN,
      MODEL_PULL_KEEP_FREE_BYTES: '0',
      ...settings,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const started = { child, log: '' };
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      started.log += chunk.toString();
    });
  }
  puller = started;
  await vi.waitUntil(() => started.log.includes('the puller is ready'), 60_000);
  return started;
}

const post = (payload: object, url = '/model-pulls') => api.app.inject({ method: 'POST', url, payload });
const pullOf = async (id: string) => (await api.app.inject(`/model-pulls/${id}`)).json<ModelPull>();
const ended = async (id: string): Promise<ModelPull> => {
  await vi.waitUntil(async () => (await pullOf(id)).ended_at !== null, { timeout: 60_000, interval: 50 });
  return await pullOf(id);
};

test('a model is pulled, listed with its commit, and not pulled again', async () => {
  const { child } = await startPuller();
  const answer = await post({ repo: REPO });
  const pull = answer.json<ModelPull>();
  expect([answer.statusCode, answer.headers.location, pull.status]).toEqual([202, `/model-pulls/${pull.id}`, 'queued']);
  const done = await ended(pull.id);
  expect(done).toMatchObject({ status: 'succeeded', commit: 'a'.repeat(40) });
  const { data } = (await api.app.inject('/models')).json();
  expect(data).toMatchObject([
    { name: 'tiny-copy', problem: null, origin: { repo: REPO, revision: 'main', commit: 'a'.repeat(40) } },
    { name: 'tiny-llama', problem: null, origin: null },
  ]);
  const again = await post({ repo: REPO });
  expect([again.statusCode, again.json()]).toEqual([200, done]);
  const other = await post({ repo: 'org/another', name: 'tiny-copy' });
  expect([other.statusCode, other.json().error]).toMatchObject([
    409,
    { code: 'conflict', param: 'name', message: expect.stringContaining(`pulled from ${REPO} at ${'a'.repeat(40)}`) },
  ]);
  const taken = await post({ repo: 'org/tiny-llama' });
  expect(taken.json().error.message).toMatch(/^There is a base model tiny-llama already\. Pull it under another name/);
  expect((await api.app.inject('/model-pulls')).json().data).toEqual([done]);
  child.kill('SIGTERM');
  expect(await once(child, 'exit')).toEqual([0, null]);
});

test('a puller that is killed in the middle is followed by one that continues from the same byte', async () => {
  hub.faults.holdAfterBytes = 7_000;
  const first = await startPuller();
  const { id } = (await post({ repo: REPO })).json<ModelPull>();
  await vi.waitUntil(async () => (await pullOf(id)).files.some(({ received_bytes }) => received_bytes === 7_000), {
    timeout: 60_000,
    interval: 50,
  });
  first.child.kill('SIGKILL');
  await once(first.child, 'exit');
  hub.release();
  hub.faults.holdAfterBytes = null;
  // Its lease would run out after some seconds.
  await redis.del(`${prefix}model-pulls:lease:${id}`);
  await startPuller();
  expect(await ended(id)).toMatchObject({ status: 'succeeded' });
  const store = hub.requests.filter(({ server: of }) => of === 'store');
  expect(store.map(({ range }) => range)).toEqual([null, 'bytes=7000-']);
});

test('the token is in no log and no answer, not even of a failure', async () => {
  const { child } = await startPuller({ HF_TOKEN: 'hf_aTokenThatMayNotReadIt' });
  const { id } = (await post({ repo: REPO })).json<ModelPull>();
  const failed = await ended(id);
  expect(failed.error).toMatchObject({ code: 'hub_access_denied' });
  expect(puller!.log).toContain('a pull failed');
  child.kill('SIGTERM');
  await once(child, 'exit');
  for (const text of [puller!.log, JSON.stringify(failed)]) expect(text).not.toContain('hf_aToken');
});

test('a wrong setting ends the puller, and a secret one is not shown', async () => {
  const child = spawn(process.execPath, [PULLER], {
    env: { PATH: process.env.PATH, HF_TOKEN: 'a secret\nX-Evil: 1', HF_ENDPOINT: 'file:///etc' },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let errors = '';
  child.stderr.on('data', (chunk: Buffer) => {
    errors += chunk.toString();
  });
  expect(await once(child, 'close')).toEqual([78, null]);
  expect(errors).toMatch(/HF_ENDPOINT "file:\/\/\/etc": is not an address/);
  expect(errors).toMatch(/HF_TOKEN: is not a token/);
  expect(errors).not.toContain('secret');
});

test('without a puller a pull is refused', async () => {
  const answer = await post({ repo: REPO });
  expect([answer.statusCode, answer.json().error.code]).toEqual([503, 'service_unavailable']);
});

test('where there are keys, only admins pull and cancel; every key sees the pulls', async () => {
  const keys = new KeyStore({ redis, prefix });
  const { token: train } = await keys.create({ name: 'one', role: 'train' });
  const { token: admin } = await keys.create({ name: 'two', role: 'admin' });
  const access = createAccess({
    redis,
    prefix,
    keys,
    withoutKeys: 'loopback',
    limits: OPEN_ACCESS.limits,
    uploadTimeoutMs: 60_000,
  });
  const guarded = await startRealApi({ redisUrl: server.url, prefix, changes: { access } });
  await startPuller({ HF_HUB_OFFLINE: '1' });
  try {
    const call = async (key: string, method: 'GET' | 'POST', url: string, payload?: object) => {
      const headers = { authorization: `Bearer ${key}` };
      return await guarded.app.inject({ method, url, headers, ...(payload === undefined ? {} : { payload }) });
    };
    expect((await call(train, 'POST', '/model-pulls', { repo: REPO })).json().error.code).toBe('forbidden');
    const pull = (await call(admin, 'POST', '/model-pulls', { repo: REPO })).json<ModelPull>();
    expect((await call(train, 'POST', `/model-pulls/${pull.id}/cancel`)).json().error.code).toBe('forbidden');
    expect((await call(train, 'GET', '/model-pulls')).json().data).toHaveLength(1);
    await vi.waitUntil(async () => (await call(train, 'GET', `/model-pulls/${pull.id}`)).json().ended_at !== null, {
      timeout: 60_000,
      interval: 50,
    });
    const failed = (await call(train, 'GET', `/model-pulls/${pull.id}`)).json<ModelPull>();
    expect(failed.error).toMatchObject({ code: 'hub_offline' });
    expect((await call(admin, 'POST', `/model-pulls/${pull.id}/cancel`)).statusCode).toBe(200);
  } finally {
    await guarded.stop();
  }
});
