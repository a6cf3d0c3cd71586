import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { localModels } from '@lorasmith/base-models';
import type { Adapter, Dataset, ErrorBody, Job, KeyId, Paged, Report } from '@lorasmith/contracts';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { adapterId, addBaseModel, publishReferenceAdapter, REFERENCE } from '../../registry/test/published-adapter.js';
import { tarOf } from '../../registry/test/tar-bytes.js';
import { storedBytesOf, unevenAdapter } from '../../registry/test/uneven-adapter.js';
import { createAccess, OPEN_ACCESS } from '../src/access/access.js';
import { KeyStore } from '../src/access/key-store.js';
import { promptRows, type RealApi, startRealApi } from './real-api.js';
import { startRegistry } from './registry-process.js';

// The api with keys, in front of a real registry process.

const MODEL = 'llama-tied';

let server: RealRedis;
let redis: Redis;
let keys: KeyStore;
let api: RealApi;
let folder: RealApi;
let registry: ChildProcess;
let url: string;
let one: { id: KeyId; token: string };
let other: { id: KeyId; token: string };
let adapterBytes: number;
/** The quota of a key. */
const MOST_ADAPTERS = 6;

beforeAll(async () => {
  server = await startRealRedis();
  redis = new Redis(server.url);
  const { prefix } = server;
  keys = new KeyStore({ redis, prefix });
  folder = await startRealApi({ redisUrl: server.url, prefix });
  await addBaseModel(`${folder.folder}/models`, MODEL);
  const started = await startRegistry(folder.folder);
  registry = started.process;
  const access = createAccess({
    redis,
    prefix,
    keys,
    withoutKeys: 'refuse',
    limits: { ...OPEN_ACCESS.limits, adapters: MOST_ADAPTERS },
    uploadTimeoutMs: 60_000,
  });
  const baseModels = localModels(`${folder.folder}/models`);
  api = await startRealApi({
    redisUrl: server.url,
    prefix,
    changes: { access, registry: started.address, adapters: folder.adapters, baseModels },
  });
  url = await api.app.listen({ host: '127.0.0.1', port: 0 });
  adapterBytes = tarred.length;
});
afterAll(async () => {
  registry?.kill('SIGKILL');
  await api?.stop();
  await folder?.stop();
  await redis?.quit();
  await server?.stop();
});

const files = ['adapter_config.json', 'adapter_model.safetensors'];
const tarred = tarOf(
  await Promise.all(
    files.map(async (name) => ({ name, content: await readFile(join(REFERENCE, MODEL, 'adapter_init', name)) })),
  ),
);

const newKey = async (options: Partial<Parameters<KeyStore['create']>[0]> = {}) => {
  const { key, token } = await keys.create({ name: 'k', role: 'train', ...options });
  return { id: key.id, token };
};
beforeEach(async () => {
  [one, other] = [await newKey(), await newKey()];
});

/** Sends the headers exactly as given, including those that `fetch` forbids. */
async function call(token: string, method: string, path: string, headers: Record<string, string> = {}, body?: Buffer) {
  // One connection per call, because some of these headers prevent its reuse.
  const sent = httpRequest(`${url}${path}`, {
    method,
    agent: false,
    headers: { authorization: `Bearer ${token}`, ...headers },
  });
  sent.end(body);
  const [answer] = await once(sent, 'response');
  const content = await text(answer);
  return { status: answer.statusCode as number, json: () => JSON.parse(content), body: content };
}
const importAs = async (token: string, headers = {}, tar = tarred, baseModel = MODEL) => {
  const answer = await call(
    token,
    'POST',
    `/adapters?base_model=${baseModel}`,
    { 'content-type': 'application/x-tar', ...headers },
    tar,
  );
  return { ...answer, adapter: answer.json() as Adapter & ErrorBody };
};
const listOf = async (token: string, headers = {}) =>
  ((await call(token, 'GET', '/adapters', headers)).json() as Paged<Adapter>).data.map(({ id }) => id);

test('an imported adapter exists for its key, and in no call for another key', async () => {
  const { status, adapter } = await importAs(one.token);
  expect([status, adapter.owner]).toEqual([201, one.id]);
  expect(await listOf(one.token)).toEqual([adapter.id]);
  expect(await listOf(other.token)).toEqual([]);
  const calls = [
    ['GET', ''],
    ['GET', '?weights=merged'],
    ['GET', '/manifest'],
    ['GET', '/files'],
    ['GET', '/files/adapter_config.json'],
    ['DELETE', ''],
  ] as const;
  for (const [method, path] of calls) {
    const answer = await call(other.token, method, `/adapters/${adapter.id}${path}`);
    expect([method, path, answer.status, answer.json().error.code]).toEqual([method, path, 404, 'adapter_not_found']);
  }
  const admin = await newKey({ role: 'admin' });
  expect(await listOf(admin.token)).toContain(adapter.id);
  expect((await call(one.token, 'DELETE', `/adapters/${adapter.id}`)).status).toBe(204);
});

test('an adapter that an unfinished job begins from is not deleted', async () => {
  await addTinyModel();
  const { adapter } = await importAs(one.token, {}, tarred, 'tiny-llama');
  const rows = Buffer.from('{"text":"a b c"}');
  const { id: dataset } = (
    await call(one.token, 'POST', '/datasets', { 'content-type': 'text/plain' }, rows)
  ).json() as Dataset;
  const body = Buffer.from(JSON.stringify({ base_model: 'tiny-llama', dataset, lora: { init_from: adapter.id } }));
  const send = () => call(one.token, 'POST', '/jobs', { 'content-type': 'application/json' }, body);
  // Who may not delete it keeps no job from it either.
  expect((await call(other.token, 'DELETE', `/adapters/${adapter.id}`)).status).toBe(404);
  const job = (await send()).json() as Job;
  expect(job).toMatchObject({ status: 'queued' });
  for (const path of [`/adapters/${adapter.id}`, `/v1/models/${adapter.id}`]) {
    const answer = await call(one.token, 'DELETE', path);
    const { code, message } = answer.json().error;
    expect([answer.status, code, message]).toEqual([409, 'in_use', expect.stringContaining(job.id)]);
  }
  expect(await listOf(one.token)).toEqual([adapter.id]);
  expect((await call(one.token, 'POST', `/jobs/${job.id}/cancel`)).status).toBe(200);
  expect((await call(one.token, 'DELETE', `/adapters/${adapter.id}`)).status).toBe(204);
  for (const answer of [await send(), await call(one.token, 'POST', `/jobs/${job.id}/resume`)]) {
    expect([answer.status, answer.json().error.code]).toEqual([404, 'adapter_not_found']);
  }
});

test('no header of a client changes the caller of a request', async () => {
  await publishReferenceAdapter(folder.adapters, {
    id: adapterId(7),
    name: MODEL,
    change(manifest) {
      manifest.owner = one.id;
    },
  });
  const forged: Record<string, string>[] = [
    { 'x-lorasmith-owner': one.id },
    { 'x-lorasmith-owner': one.id, 'x-lorasmith-sees': 'all' },
    { 'X-Lorasmith-Owner': '', 'X-Lorasmith-Sees': 'all' },
    // A proxy does not forward the headers named in Connection.
    { connection: 'close, x-lorasmith-owner, x-lorasmith-sees' },
    { connection: 'x-lorasmith-sees, x-lorasmith-owner', 'x-lorasmith-sees': 'all', 'x-lorasmith-owner': '' },
  ];
  for (const headers of forged) {
    expect(await listOf(other.token, headers)).toEqual([]);
    const theirs = await call(other.token, 'GET', `/adapters/${adapterId(7)}`, headers);
    expect([theirs.status, theirs.json().error.message]).toEqual([404, expect.stringContaining('no adapter')]);
    const { adapter } = await importAs(other.token, headers);
    expect(adapter.owner).toBe(other.id);
    expect((await call(other.token, 'DELETE', `/adapters/${adapter.id}`, headers)).status).toBe(204);
  }
  // Paths of the registry that are only for the api are not forwarded.
  expect((await call(other.token, 'GET', '/usage')).status).toBe(404);
  expect((await call(one.token, 'GET', `/adapters/${adapterId(7)}`)).status).toBe(200);
});

test('the bytes of adapters are limited for imports', async () => {
  const key = await newKey({ limits: { adapter_bytes: 1.5 * adapterBytes } });
  expect((await importAs(key.token)).status).toBe(201);
  const second = await importAs(key.token);
  expect([second.status, second.adapter.error.code]).toEqual([429, 'quota_exceeded']);
  // Also without a declared length.
  const chunked = await importAs(key.token, { 'transfer-encoding': 'chunked' });
  expect([chunked.status, chunked.adapter.error.code]).toEqual([429, 'quota_exceeded']);
  expect(await listOf(key.token)).toHaveLength(1);
});

test('the number of adapters is limited for imports and for new jobs', async () => {
  const key = await newKey({});
  for (let i = 0; i < MOST_ADAPTERS; i++) expect((await importAs(key.token)).status).toBe(201);
  const beyond = await importAs(key.token);
  expect([beyond.status, beyond.adapter.error.code]).toEqual([429, 'quota_exceeded']);
  await addTinyModel();
  const rows = Buffer.from(promptRows(4));
  const dataset = (
    await call(key.token, 'POST', '/datasets', { 'content-type': 'text/plain' }, rows)
  ).json() as Dataset;
  const body = Buffer.from(JSON.stringify({ base_model: 'tiny-llama', dataset: dataset.id }));
  const send = () => call(key.token, 'POST', '/jobs', { 'content-type': 'application/json' }, body);
  expect((await send()).json().error.code).toBe('quota_exceeded');
  const [first] = await listOf(key.token);
  expect((await call(key.token, 'DELETE', `/adapters/${first}`)).status).toBe(204);
  expect((await send()).status).toBe(202);
});

test('an import counts with its stored size, which can be many times that of its tar', async () => {
  const rank = 128;
  const tar = unevenAdapter(
    JSON.parse(await readFile(join(REFERENCE, MODEL, 'adapter_init', files[0]!), 'utf8')),
    rank,
  );
  expect(tar.length).toBeLessThan(storedBytesOf(rank) / 10);
  const small = await newKey({ limits: { adapter_bytes: storedBytesOf(rank) - 1 } });
  const refused = await importAs(small.token, {}, tar);
  expect([refused.status, refused.adapter.error.code]).toEqual([429, 'quota_exceeded']);
  // A client cannot set the free bytes.
  const forged = await importAs(small.token, { 'x-lorasmith-own-free-bytes': '1000000000000' }, tar);
  expect([forged.status, forged.adapter.error.code]).toEqual([429, 'quota_exceeded']);
  expect(await listOf(small.token)).toEqual([]);

  // Concurrent imports do not know each other's stored size.
  const key = await newKey({ limits: { adapter_bytes: 2 * storedBytesOf(rank) - 1 } });
  const sent = await Promise.all(Array.from({ length: 3 }, () => importAs(key.token, {}, tar)));
  const taken = sent.filter(({ status }) => status === 201).map(({ adapter }) => adapter.id);
  for (const { status, adapter } of sent) {
    if (status !== 201) expect([status, adapter.error.code]).toEqual([429, 'quota_exceeded']);
  }
  expect(taken.length).toBeLessThanOrEqual(1);
  expect(await listOf(key.token)).toEqual(taken);
  // If all were refused because of each other, a single one is accepted.
  if (taken.length === 0) expect((await importAs(key.token, {}, tar)).status).toBe(201);
});

test('the bytes of the adapter are reserved when a job is created or resumed, until it ends', async () => {
  const upload = async ({ token }: { token: string }) => {
    const headers = { 'content-type': 'text/plain' };
    return (await call(token, 'POST', '/datasets', headers, Buffer.from(promptRows(4)))).json() as Dataset;
  };
  const send = async (by: { token: string }, lora: object) => {
    const body = Buffer.from(JSON.stringify({ base_model: 'tiny-llama', dataset: (await upload(by)).id, lora }));
    return await call(by.token, 'POST', '/jobs', { 'content-type': 'application/json' }, body);
  };
  await addTinyModel();
  const bytesOf = async (lora: object) => {
    const body = Buffer.from(JSON.stringify({ base_model: 'tiny-llama', dataset: (await upload(one)).id, lora }));
    const answer = await call(one.token, 'POST', '/jobs?dry_run=true', { 'content-type': 'application/json' }, body);
    return (answer.json() as Report).adapter_bytes!;
  };
  // One layer with a larger rank makes every layer as large, because the files have one rank.
  const uneven = { r: 1, rank_pattern: { 'layers.0.self_attn.q_proj': 512 } };
  expect(await bytesOf(uneven)).toBeGreaterThanOrEqual(await bytesOf({ r: 512 }));
  const bytes = await bytesOf({ r: 64 });
  const small = await newKey({ limits: { adapter_bytes: Math.floor(2.5 * bytes) } });
  expect((await send(small, uneven)).json().error.code).toBe('quota_exceeded');

  const sent = await Promise.all(Array.from({ length: 6 }, () => send(small, { r: 64 })));
  const codes = sent.filter(({ status }) => status !== 202).map((answer) => answer.json().error.code);
  expect(new Set(codes)).toEqual(new Set(['quota_exceeded']));
  expect(codes.length).toBeGreaterThanOrEqual(4);
  const queued = sent.flatMap((answer) => (answer.status === 202 ? [(answer.json() as Job).id] : []));
  // If concurrent jobs were refused because of each other, single ones are accepted.
  while (queued.length < 2) queued.push(((await send(small, { r: 64 })).json() as Job).id);
  const post = (path: string) => call(small.token, 'POST', path);
  // A cancelled job releases its bytes, and cannot be resumed while another job uses them.
  expect((await post(`/jobs/${queued[0]}/cancel`)).status).toBe(200);
  expect((await send(small, { r: 64 })).status).toBe(202);
  const resumed = await post(`/jobs/${queued[0]}/resume`);
  expect([resumed.status, resumed.json().error.code]).toEqual([429, 'quota_exceeded']);
  expect((await post(`/jobs/${queued[1]}/cancel`)).status).toBe(200);
  expect((await post(`/jobs/${queued[0]}/resume`)).status).toBe(202);
  // Reserved bytes are not available to an import either.
  const tight = await newKey({ limits: { adapter_bytes: bytes + adapterBytes / 2 } });
  expect((await send(tight, { r: 64 })).status).toBe(202);
  expect((await importAs(tight.token)).adapter.error.code).toBe('quota_exceeded');
});

async function addTinyModel(): Promise<void> {
  const { writeTinyLlama } = await import('../../../test/tiny-llama.js');
  await writeTinyLlama(join(folder.folder, 'models/tiny-llama'));
}
