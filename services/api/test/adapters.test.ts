import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp } from 'node:fs/promises';
import { type IncomingMessage, request } from 'node:http';
import { join } from 'node:path';
import { localModels } from '@lorasmith/base-models';
import { type Adapter, AdapterFileList, AdapterManifest, AdapterPage, type Paged } from '@lorasmith/contracts';
import { openBundleStore } from '@lorasmith/storage';
import { Value } from 'typebox/value';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { absentRedisUrl, type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { adapterId, addBaseModel, publishReferenceAdapter, REFERENCE } from '../../registry/test/published-adapter.js';
import { registryAt } from '../src/adapters/registry-client.js';
import { jsonOf } from './json-of.js';
import { type RealApi, startRealApi } from './real-api.js';
import { startRegistry } from './registry-process.js';

const MODEL = 'llama-tied';
/** A reference case with a tokenizer, a base model and adapters. */
const OPTIONS = join(REFERENCE, '../lora-options/lora-plus');

let server: RealRedis;
let api: RealApi;
let registry: ChildProcess;
let url: string;
const id = adapterId(1);

beforeAll(async () => {
  server = await startRealRedis();
  // The address of the registry is known once it listens, and it needs the folder of the api.
  const first = await startRealApi({ redisUrl: server.url, prefix: server.prefix });
  await addBaseModel(`${first.folder}/models`, MODEL);
  await cp(join(OPTIONS, 'base'), `${first.folder}/models/with-tokenizer`, { recursive: true });
  await publishReferenceAdapter(await openBundleStore({ root: first.folder, kind: 'adapters' }), { id, name: MODEL });
  const started = await startRegistry(first.folder);
  registry = started.process;
  const app = await startRealApi({
    redisUrl: server.url,
    prefix: server.prefix,
    changes: {
      registry: started.address,
      adapters: first.adapters,
      baseModels: localModels(`${first.folder}/models`),
      dataDir: first.folder,
    },
  });
  api = {
    ...app,
    async stop() {
      await app.stop();
      await first.stop();
    },
  };
  url = await api.app.listen({ host: '127.0.0.1', port: 0 });
});
afterAll(async () => {
  registry?.kill('SIGKILL');
  await api?.stop();
  await server?.stop();
});

async function dryRun(changes: object) {
  const { body } = await api.app.inject({
    method: 'POST',
    url: '/datasets',
    payload: '{"text":"a b c"}',
    headers: { 'content-type': 'text/plain' },
  });
  const payload = { base_model: MODEL, dataset: JSON.parse(body).id, ...changes };
  return await api.app.inject({ method: 'POST', url: '/jobs?dry_run=true', payload });
}

describe('the answer of the registry', () => {
  test('is forwarded for list, manifest and files', async () => {
    const get = async (path: string) => jsonOf<Paged<Adapter>>(await fetch(`${url}${path}`));
    const page = await get('/adapters?limit=5');
    expect(Value.Check(AdapterPage, page)).toBe(true);
    expect(page.data.map((adapter) => adapter.id)).toEqual([id]);
    expect(Value.Check(AdapterManifest, await get(`/adapters/${id}/manifest`))).toBe(true);
    expect(Value.Check(AdapterFileList, await get(`/adapters/${id}/files`))).toBe(true);
  });

  test('is forwarded byte for byte, complete and in ranges, with its ETag', async () => {
    const path = `${url}/adapters/${id}/files/adapter_model.safetensors`;
    const whole = await fetch(path);
    const bytes = Buffer.from(await whole.arrayBuffer());
    expect(bytes.length).toBe(Number(whole.headers.get('content-length')));
    const etag = whole.headers.get('etag')!;
    const part = await fetch(path, { headers: { range: 'bytes=10-19' } });
    expect([part.status, part.headers.get('content-range')]).toEqual([206, `bytes 10-19/${bytes.length}`]);
    expect(Buffer.from(await part.arrayBuffer())).toEqual(bytes.subarray(10, 20));
    expect((await fetch(path, { headers: { 'if-none-match': etag } })).status).toBe(304);
    expect((await fetch(path, { headers: { range: 'bytes=999999999-' } })).status).toBe(416);
    const head = await fetch(path, { method: 'HEAD' });
    expect([head.status, head.headers.get('content-length'), head.headers.get('etag')]).toEqual([
      200,
      String(bytes.length),
      etag,
    ]);
  });

  test('is forwarded if it is an error, with the request id of the client', async () => {
    const answer = await fetch(`${url}/adapters/${adapterId(9)}/manifest`, { headers: { 'x-request-id': 'mine' } });
    expect(answer.status).toBe(404);
    expect((await jsonOf(answer)).error).toMatchObject({ code: 'adapter_not_found', request_id: 'mine' });
  });

  test.each([
    ['keep-alive', 'timeout=5'],
    ['upgrade', 'h2c'],
    ['proxy-connection', 'keep-alive'],
    ['te', 'trailers'],
  ])('does not depend on the connection header %s: %s', async (name, value) => {
    const asking = request(`${url}/adapters`, { agent: false, headers: { [name]: value } }).end();
    const [answer] = (await once(asking, 'response')) as [IncomingMessage];
    answer.resume();
    expect(answer.statusCode).toBe(200);
  });

  test.each([
    '/adapters/..%2f..%2flive',
    '/adapters/%2e%2e/files',
    '/adapters/..%252f..%252flive',
    `/adapters/${'ad_000000000000000000000001'}/files/..%2fmanifest.json`,
    `/adapters/${'ad_000000000000000000000001'}/files/%2e%2e`,
    '/adapters/a%3Fb/manifest',
    '/adapters/$&/manifest',
  ])('%s reaches no other path', async (path) => {
    const answer = await fetch(`${url}${path}`);
    expect([400, 404]).toContain(answer.status);
    expect((await jsonOf(answer)).error.code).toMatch(/not_found$|^invalid_request$/);
  });

  test.each(['?weights=both', '?format=zip', '?other=1'])('%s is refused', async (query) => {
    expect((await fetch(`${url}/adapters/${id}${query}`)).status).toBe(400);
  });
});

describe('an adapter of PEFT', () => {
  const importTar = async (
    query: string,
    body: NonNullable<RequestInit['body']>,
    headers: Record<string, string> = {},
  ) =>
    await fetch(`${url}/adapters${query}`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-tar', ...headers },
      body,
      duplex: 'half',
    } as RequestInit);
  /** The adapter from which training starts, streamed without a length. */
  const tar = () => {
    const folder = join(OPTIONS, 'adapter_init');
    const { stdout } = spawn('tar', ['-cf', '-', '-C', folder, '.'], { stdio: ['ignore', 'pipe', 'inherit'] });
    return ReadableStream.from(stdout);
  };

  test('is imported from a sender that waits for a 100 before its body, like curl', async () => {
    const sent = request(`${url}/adapters?base_model=with-tokenizer`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-tar', expect: '100-continue' },
    });
    await once(sent, 'continue');
    for await (const chunk of tar()) sent.write(chunk);
    sent.end();
    const [answer] = (await once(sent, 'response')) as [IncomingMessage];
    answer.resume();
    expect(answer.statusCode).toBe(201);
  });

  test('is imported through the api and trained further', async () => {
    const imported = await importTar('?base_model=with-tokenizer&name=mine', tar());
    expect(imported.status).toBe(201);
    const adapter = await jsonOf<Adapter>(imported);
    expect(imported.headers.get('location')).toBe(`/adapters/${adapter.id}`);
    expect(adapter).toMatchObject({ origin: { kind: 'imported' }, name: 'mine', base_model: 'with-tokenizer' });
    expect((await fetch(`${url}/adapters/${adapter.id}`, { method: 'HEAD' })).status).toBe(200);

    const modules = (await jsonOf<AdapterManifest>(await fetch(`${url}/adapters/${adapter.id}/manifest`))).lora.modules;
    const shapes = [
      [{ r: 8 }, 'lora.r'],
      [{ alpha: 16 }, 'lora.alpha'],
      [{ use_rslora: true }, 'lora.use_rslora'],
      [{ rank_pattern: { q_proj: 2 } }, 'lora.rank_pattern'],
      [{ alpha_pattern: { q_proj: 2 } }, 'lora.alpha_pattern'],
      [{ target_modules: ['q_proj'] }, 'lora.target_modules'],
      [{ layers_to_transform: [0] }, 'lora.target_modules'],
    ] as const;
    for (const [lora, param] of shapes) {
      const answer = await dryRun({ base_model: 'with-tokenizer', lora: { init_from: adapter.id, ...lora } });
      expect([answer.statusCode, answer.json().error?.code, answer.json().error?.param]).toEqual([
        422,
        'invalid_job',
        param,
      ]);
    }
    for (const lora of [{}, { r: 4, alpha: 8, target_modules: [...modules] }]) {
      const answer = await dryRun({ base_model: 'with-tokenizer', lora: { init_from: adapter.id, ...lora } });
      expect([answer.statusCode, answer.json().parameters?.modules.toSorted()]).toEqual([200, modules.toSorted()]);
    }
  });

  test('an adapter of PEFT that is refused is answered with the error of the registry', async () => {
    const code = async (response: Response) => (await jsonOf<{ error: { code: string } }>(response)).error.code;
    expect(await code(await importTar('', tar()))).toBe('invalid_request');
    expect(await code(await importTar('?base_model=none', tar()))).toBe('model_not_found');
    expect(await code(await importTar('?base_model=with-tokenizer', 'no tar'))).toBe('unsupported_media_type');
    expect(await code(await importTar('?base_model=with-tokenizer&x=1', tar()))).toBe('unknown_field');
    const json = await importTar('?base_model=with-tokenizer', '{}', { 'content-type': 'application/json' });
    expect(await code(json)).toBe('unsupported_media_type');
    const gzip = await importTar('?base_model=with-tokenizer', 'x', { 'content-type': 'application/gzip' });
    expect((await jsonOf<{ error: { message: string } }>(gzip)).error.message).toBe(
      'This call takes a plain tar (tar -cf), with the header content-type: application/x-tar.',
    );
  });
});

describe('init_from', () => {
  const post = async (changes: object) => (await dryRun(changes)).json().error;

  test('init_from of an adapter on another model is refused', async () => {
    expect(await post({ base_model: 'tiny-llama', lora: { init_from: id, r: 4 } })).toMatchObject({
      code: 'invalid_adapter',
      param: 'lora.init_from',
    });
  });
});

test('an unavailable registry is a 503 at once', async () => {
  const absent = registryAt((await absentRedisUrl()).replace('redis:', 'http:'), null, '/');
  const alone = await startRealApi({ redisUrl: server.url, prefix: server.prefix, changes: { registry: absent } });
  try {
    const answer = await alone.app.inject('/adapters');
    expect([answer.statusCode, answer.json().error.code]).toEqual([503, 'registry_unavailable']);
  } finally {
    await alone.stop();
  }
});
