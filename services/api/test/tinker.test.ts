import type { AdapterId, QueuedSessionResult } from '@lorasmith/contracts';
import { type SessionCheckpoint, TrainingSessionServer, TrainingSessionStore } from '@lorasmith/queue';
import { MessageWriter } from '@lorasmith/tinker-wire';
import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { createAccess, OPEN_ACCESS } from '../src/access/access.js';
import { KeyStore } from '../src/access/key-store.js';
import { OPENED } from './opened-session.js';
import { type RealApi, startRealApi } from './real-api.js';

const PREFIX = '/tinker/api/v1';
const PROTOBUF = 'application/x-protobuf';
const UNKNOWN_SESSION = '0'.repeat(32);
const FAILURE = { kind: 'failed', category: 'user', code: 'invalid_request', message: 'no' } as const;

let server: RealRedis;
let redis: Redis;
let prefix: string;
let api: RealApi;
let keys: KeyStore;
let store: TrainingSessionStore;
/** The worker's side of the queue. */
let worker: TrainingSessionServer;
let round = 0;

beforeAll(async () => {
  server = await startRealRedis();
  redis = new Redis(server.url);
});
afterAll(async () => {
  await redis.quit();
  await server.stop();
});
beforeEach(async () => {
  prefix = `${server.prefix}tinker-${round++}:`;
  keys = new KeyStore({ redis, prefix });
  const { limits } = OPEN_ACCESS;
  const access = createAccess({ redis, prefix, keys, withoutKeys: 'refuse', limits, uploadTimeoutMs: 60_000 });
  api = await startRealApi({ redisUrl: server.url, prefix, changes: { access } });
  store = new TrainingSessionStore({ redis, prefix });
  worker = new TrainingSessionServer({ redis, prefix, workerName: 'w' });
});
afterEach(async () => {
  store.close();
  worker.close();
  await api.stop();
});

type Method = 'GET' | 'POST' | 'PUT' | 'DELETE';

/** A client with a key of its own. */
async function newClient(name: string) {
  const { key, token } = await keys.create({ name, role: 'train' });
  return { owner: key.id, ...clientWith(`tml-${token}`) };
}

type Client = ReturnType<typeof clientWith>;

function clientWith(apiKey: string) {
  const call = async (method: Method, url: string, payload?: object, more: Record<string, string> = {}) => {
    const headers = { 'x-api-key': apiKey, ...more };
    const answer = await api.app.inject({ method, url: PREFIX + url, headers, ...(payload && { payload }) });
    return { status: answer.statusCode, body: answer.body === '' ? null : answer.json() };
  };
  return {
    call,
    get: (url: string) => call('GET', url),
    post: (url: string, payload: object = {}) => call('POST', url, payload),
    protobuf: (bytes: Uint8Array) =>
      call('POST', '/forward_backward', Buffer.from(bytes), { 'content-type': PROTOBUF }),
  };
}

async function newSession(client: Client): Promise<string> {
  return (await client.post('/create_session', { tags: [] })).body.session_id;
}

const modelBody = (session_id: string, more: object = {}) => ({
  ...{ session_id, model_seq_id: 0, base_model: 'tiny-llama', lora_config: { rank: 4, seed: 1 } },
  ...more,
});

/** A session with a model that a worker has opened. */
async function newModel(client: Client) {
  const session = await newSession(client);
  const id: string = (await client.post('/create_model', modelBody(session))).body.model_id;
  const claimed = (await worker.claim(null))!;
  await claimed.end(0, OPENED);
  return { session, id, claimed };
}

const stepBody = (model_id: string, seq_id: number, adam_params: object = {}) => ({ model_id, seq_id, adam_params });

const checkpointOf = (more: Partial<SessionCheckpoint> = {}): SessionCheckpoint => ({
  ...{ kind: 'weights', name: 'a', adapter: `ad_${'1'.repeat(24)}` as AdapterId, base_model: 'tiny-llama' },
  ...{ created_at: new Date(0).toISOString(), expires_at: null, bytes: 7, public: false, user_metadata: {} },
  ...more,
});

describe('keys and tenants', () => {
  test('a key that is wrong, or not one of tinker, is refused in the form that the client shows', async () => {
    const { token } = await keys.create({ name: 'a', role: 'train' });
    for (const key of [`tml-${token}x`, token, 'tml-', '']) {
      const { status, body } = await clientWith(key).post('/create_session');
      expect([status, Object.keys(body)]).toEqual([401, ['detail']]);
      expect(body.detail).toContain('API key');
    }
    expect((await clientWith(`tml-${token}`).post('/create_session')).status).toBe(200);
  });

  test("another's sessions, models, results, samplers and checkpoints are not there", async () => {
    const [mine, other] = [await newClient('mine'), await newClient('other')];
    const { session, id, claimed } = await newModel(mine);
    await claimed.writeCheckpoint(checkpointOf());
    await mine.post('/optim_step', stepBody(id, 1));
    const sampler = { session_id: session, sampling_session_seq_id: 0, base_model: 'tiny-llama' };
    const samplerId: string = (await mine.post('/create_sampling_session', sampler)).body.sampling_session_id;
    const path = `tinker://${id}/weights/a`;
    const one = `/training_runs/${id}/checkpoints/weights/a`;
    const calls: [Method, string, object?][] = [
      ['POST', '/session_heartbeat', { session_id: session }],
      ['POST', `/sessions/${session}/finish`],
      ['GET', `/sessions/${session}`],
      ['POST', '/create_model', modelBody(session, { model_seq_id: 1 })],
      ['POST', '/get_info', { model_id: id }],
      ['POST', '/unload_model', { model_id: id }],
      ['POST', '/optim_step', stepBody(id, 2)],
      ['POST', '/save_weights', { model_id: id, seq_id: 2 }],
      ['POST', '/save_weights_for_sampler', { model_id: id, seq_id: 2, sampling_session_seq_id: 3 }],
      ['POST', '/load_weights', { model_id: id, seq_id: 2, path, optimizer: true }],
      ['POST', '/load_weights', { session_id: session, model_seq_id: 1, path, optimizer: true }],
      ['POST', '/retrieve_future', { request_id: `${id}:0` }],
      ['POST', '/create_sampling_session', { ...sampler, sampling_session_seq_id: 1 }],
      ['GET', `/samplers/${samplerId}`],
      [
        'POST',
        '/asample',
        {
          ...{ sampling_session_id: samplerId, seq_id: 0, sampling_params: {} },
          prompt: { chunks: [{ type: 'encoded_text', tokens: [1] }] },
        },
      ],
      ['GET', `/training_runs/${id}`],
      ['GET', `/training_runs/${id}/checkpoints`],
      ['POST', '/weights_info', { tinker_path: path }],
      ['POST', '/copy_weights', { source_path: path }],
      ['DELETE', one],
      ['PUT', `${one}/ttl`, { ttl_seconds: 1 }],
      ['POST', `${one}/publish`],
      ['DELETE', `${one}/publish`],
      ['GET', `${one}/external_weights_urls`],
    ];
    const answers: [string, number][] = [];
    for (const [method, url, payload] of calls) {
      const { status, body } = await other.call(method, url, payload);
      answers.push([`${method} ${url}`, status]);
      expect(Object.keys(body)).toEqual(['detail']);
    }
    const { status } = await other.protobuf(new MessageWriter().text(1, id).integer(2, 2).finish());
    expect([...answers, ['forward_backward', status]]).toEqual([
      ...calls.map(([method, url]) => [`${method} ${url}`, 404]),
      ['forward_backward', 400],
    ]);
    expect((await other.post('/optim_step', stepBody(id, 2, { learning_rate: -1 }))).status).toBe(400);
    expect((await other.get('/sessions')).body).toEqual({ sessions: [] });
    expect((await other.get('/training_runs')).body.training_runs).toEqual([]);
    expect((await other.get('/checkpoints')).body.checkpoints).toEqual([]);
    // Nothing of it had an effect.
    expect(await claimed.op(2)).toBeNull();
    expect((await mine.post('/session_heartbeat', { session_id: session })).status).toBe(200);
    expect(await store.checkpoints(id)).toEqual([checkpointOf()]);
    expect((await mine.get('/sessions')).body).toEqual({ sessions: [session] });
  });

  test('a checkpoint that is published may be read by others, and not changed', async () => {
    const [mine, other] = [await newClient('mine'), await newClient('other')];
    const { id, claimed } = await newModel(mine);
    await claimed.writeCheckpoint(checkpointOf());
    const one = `/training_runs/${id}/checkpoints/weights/a`;
    const info = { tinker_path: `tinker://${id}/weights/a` };
    expect((await mine.post(`${one}/publish`)).status).toBe(200);
    expect(await other.post('/weights_info', info)).toMatchObject({ status: 200, body: { lora_rank: 4 } });
    expect((await other.call('DELETE', one)).status).toBe(404);
    expect((await mine.call('DELETE', `${one}/publish`)).status).toBe(200);
    expect((await other.post('/weights_info', info)).status).toBe(404);
  });
});

describe('sessions and results', () => {
  test('the heartbeat of a session that has ended is answered with 410, and its calls with the reason', async () => {
    const client = await newClient('a');
    const { session, id } = await newModel(client);
    expect((await client.post(`/sessions/${session}/finish`)).status).toBe(200);
    const beat = await client.post('/session_heartbeat', { session_id: session });
    expect([beat.status, beat.body.detail]).toEqual([410, expect.stringContaining('Its client has finished it.')]);
    expect((await client.post('/create_model', modelBody(session, { model_seq_id: 1 }))).status).toBe(400);
    const { request_id } = (await client.post('/optim_step', stepBody(id, 1))).body;
    expect((await client.post('/retrieve_future', { request_id })).body).toEqual({
      error: expect.stringContaining('finished'),
      ...{ category: 'server', code: 'cancelled' },
    });
  });

  test('a result that is not there is answered with 410, and what is no id with 400', async () => {
    const client = await newClient('a');
    const session = await newSession(client);
    const status = async (request_id: string) => (await client.post('/retrieve_future', { request_id })).status;
    expect(await status(`${session}:train:7:1`)).toBe(410);
    expect(await status(`${session}:sample:7:1`)).toBe(410);
    expect(await status(`${UNKNOWN_SESSION}:train:0:1`)).toBe(404);
    for (const text of ['', 'x', `${session}:train:0`, `${session}:load:0:1`, `${session}:train:0:-1`]) {
      expect(await status(text)).toBe(400);
    }
  });

  test('a call sent twice is done once, and one that comes early waits for those before it', async () => {
    const client = await newClient('a');
    const { id, claimed } = await newModel(client);
    const send = (seq: number, learning_rate: number) =>
      client.post('/optim_step', stepBody(id, seq, { learning_rate }));
    await send(2, 2);
    expect(await claimed.op(1)).toBeNull();
    const twice = await Promise.all([send(1, 1), send(1, 1)]);
    expect(twice.map(({ body }) => body.request_id)).toEqual([`${id}:1`, `${id}:1`]);
    const result: QueuedSessionResult = { kind: 'optimizer-step', metrics: { 'grad_norm:mean': 0.5 } };
    expect(await claimed.op(1)).toMatchObject({ learning_rate: 1, beta2: 0.95, eps: 1e-12, weight_decay: 0 });
    await claimed.end(1, result);
    expect(await claimed.op(2)).toMatchObject({ learning_rate: 2 });
    for (let fetch = 0; fetch < 2; fetch++) {
      const { body } = await client.post('/retrieve_future', { request_id: `${id}:1` });
      expect(body).toEqual({ metrics: { 'grad_norm:mean': 0.5 } });
    }
  });

  test('a refused call keeps its place, and its refusal is its result', async () => {
    const client = await newClient('a');
    const { id, claimed } = await newModel(client);
    const { status, body } = await client.post('/optim_step', stepBody(id, 1, { learning_rate: -1 }));
    expect([status, body.request_id]).toEqual([200, `${id}:1`]);
    const failure = { kind: 'failed', category: 'user', code: 'invalid_request' };
    const op = await claimed.op(1);
    expect(op).toMatchObject({ kind: 'refused', failure });
    if (op?.kind !== 'refused') throw new Error('The op was not queued.');
    await claimed.end(1, op.failure);
    expect((await client.post('/retrieve_future', { request_id: `${id}:1` })).body).toEqual({
      error: 'adam_params.learning_rate must be >= 0.',
      ...{ category: 'user', code: 'invalid_request' },
    });
  });

  test('a thousand clients that wait for results keep nobody waiting, and each has its result', async () => {
    const client = await newClient('a');
    const { session, id, claimed } = await newModel(client);
    await client.post('/optim_step', stepBody(id, 1));
    const waiting = Array.from({ length: 1_000 }, () => client.post('/retrieve_future', { request_id: `${id}:1` }));
    expect((await client.post('/session_heartbeat', { session_id: session })).status).toBe(200);
    await claimed.end(1, { kind: 'optimizer-step', metrics: { 'grad_norm:mean': 0.5 } });
    const answers = await Promise.all(waiting);
    expect(answers.filter(({ body }) => body.metrics?.['grad_norm:mean'] === 0.5)).toHaveLength(1_000);
  });

  test('no more calls of a model wait than may: the client is told to send it again', async () => {
    const client = await newClient('a');
    const { id } = await newModel(client);
    for (let seq = 1; seq <= 1_000; seq++) await store.submit(id, seq, { kind: 'refused', failure: FAILURE });
    expect((await client.post('/optim_step', stepBody(id, 1_001))).status).toBe(429);
    expect((await client.post('/optim_step', stepBody(id, 1_001, { learning_rate: -1 }))).status).toBe(429);
    expect((await client.post('/optim_step', stepBody(id, 1_000))).status).toBe(200);
  });
});

describe('bad input', () => {
  test('a model is refused before anything of it is kept', async () => {
    const client = await newClient('a');
    const session = await newSession(client);
    const refusals: [object, number, string][] = [
      [{ lora_config: null }, 400, 'only LoRA is trained'],
      [{ lora_config: { rank: 0 } }, 400, 'rank'],
      [{ lora_config: { rank: 100_000 } }, 400, 'rank'],
      [{ lora_config: { rank: 4, seed: -1 } }, 400, 'seed'],
      [{ model_seq_id: -1 }, 400, 'model_seq_id'],
      [{ model_seq_id: 1e15 }, 400, 'model_seq_id'],
      [{ base_model: 'no-such' }, 404, 'tiny-llama'],
      [{ optimizer_config: { type: 'muon' } }, 400, 'muon'],
      [{ session_id: '../../x' }, 404, 'no session'],
    ];
    for (const [change, status, text] of refusals) {
      const answer = await client.post('/create_model', modelBody(session, change));
      expect([answer.status, answer.body.detail]).toEqual([status, expect.stringContaining(text)]);
    }
    expect(await worker.claim(null)).toBeNull();
    expect((await client.get('/training_runs')).body.training_runs).toEqual([]);
  });

  test('a body of another kind, cut, forged or too long is refused', async () => {
    const client = await newClient('a');
    const { id, claimed } = await newModel(client);
    const json = await client.post('/forward_backward', { model_id: id });
    expect([json.status, json.body.detail]).toEqual([415, expect.stringContaining(PROTOBUF)]);
    const whole = new MessageWriter().text(1, id).integer(2, 1).text(4, 'cross_entropy').finish();
    const cut = await client.protobuf(whole.subarray(0, 20));
    expect([cut.status, Object.keys(cut.body)]).toEqual([400, ['detail']]);
    expect((await client.protobuf(Buffer.alloc(32 * 2 ** 20 + 1))).status).toBe(413);
    expect(await claimed.op(1)).toBeNull();
    // Its model and number can be read, so that its refusal is its result.
    expect(
      await client.protobuf(new MessageWriter().text(1, id).integer(2, 1).text(4, 'nonsense').finish()),
    ).toMatchObject({
      status: 200,
      body: { request_id: `${id}:1` },
    });
    expect(await claimed.op(1)).toMatchObject({
      kind: 'refused',
      failure: { category: 'user', message: expect.stringContaining('nonsense') },
    });
  });

  test('paths and names that are none of a checkpoint are refused', async () => {
    const client = await newClient('a');
    const { session, id, claimed } = await newModel(client);
    for (const path of [
      'x',
      'tinker://',
      `tinker://${id}/weights/`,
      `tinker://${id}/nothing/a`,
      'tinker://../weights/a/b',
    ]) {
      const answer = await client.post('/weights_info', { tinker_path: path });
      expect([answer.status, answer.body.detail]).toEqual([400, expect.stringContaining('is no path')]);
    }
    expect((await client.post('/weights_info', { tinker_path: `tinker://${id}/weights/a` })).status).toBe(404);
    for (const name of ['', '..', 'a/b', '-a', 'a'.repeat(129)]) {
      const seq_id = 1;
      expect((await client.post('/save_weights', { model_id: id, seq_id, path: name })).status).toBe(200);
      expect(await claimed.op(1)).toMatchObject({ kind: 'refused' });
    }
    await claimed.writeCheckpoint(checkpointOf({ kind: 'external_weights' }));
    const load = { session_id: session, model_seq_id: 1, path: `tinker://${id}/external_weights/a` };
    const withOptimizer = await client.post('/load_weights', { ...load, optimizer: true });
    expect([withOptimizer.status, withOptimizer.body.detail]).toEqual([400, expect.stringContaining('save_state')]);
    expect((await client.post('/load_weights', { ...load, optimizer: false })).status).toBe(200);
  });
});

describe('checkpoints', () => {
  test('are listed with the newest first, in pages', async () => {
    const client = await newClient('a');
    const { id, claimed } = await newModel(client);
    for (const [index, name] of ['a', 'b', 'c'].entries()) {
      const adapter = `ad_${String(index).repeat(24)}` as AdapterId;
      await claimed.writeCheckpoint(checkpointOf({ name, adapter, created_at: new Date(index).toISOString() }));
    }
    const paths = ({ body }: { body: { checkpoints: { tinker_path: string }[] } }) =>
      body.checkpoints.map(({ tinker_path }) => tinker_path.at(-1));
    expect(paths(await client.get(`/training_runs/${id}/checkpoints`))).toEqual(['c', 'b', 'a']);
    const page = await client.get('/checkpoints?limit=2&offset=1');
    expect(paths(page)).toEqual(['b', 'a']);
    expect(page.body.cursor).toEqual({ offset: 1, limit: 2, total_count: 3 });
    expect((await client.get('/checkpoints?limit=0')).status).toBe(400);
    expect((await client.get('/checkpoints?offset=-1')).status).toBe(400);
  });

  test('have a time to live, after which they are not there', async () => {
    const client = await newClient('a');
    const { id, claimed } = await newModel(client);
    await claimed.writeCheckpoint(checkpointOf());
    await claimed.writeCheckpoint(checkpointOf({ name: 'old', expires_at: new Date(1).toISOString() }));
    const ttl = `/training_runs/${id}/checkpoints/weights/a/ttl`;
    expect((await client.call('PUT', ttl, { ttl_seconds: 0 })).status).toBe(400);
    expect((await client.call('PUT', ttl, { ttl_seconds: 3_600 })).status).toBe(200);
    const [found] = await store.checkpoints(id);
    expect(Date.parse(found!.expires_at!) - Date.now()).toBeLessThanOrEqual(3_600_000);
    expect((await client.call('PUT', ttl, { ttl_seconds: null })).status).toBe(200);
    expect(await store.checkpoints(id)).toEqual([checkpointOf()]);
    expect((await client.post('/weights_info', { tinker_path: `tinker://${id}/weights/old` })).status).toBe(404);
  });

  test('are kept until their adapter is removed', async () => {
    const client = await newClient('a');
    const { id, claimed } = await newModel(client);
    const checkpoint = checkpointOf();
    await claimed.writeCheckpoint(checkpoint);
    const one = `/training_runs/${id}/checkpoints/weights/a`;
    // A contradiction: the client would send a call with 409 for five minutes.
    const name = { owner: client.owner, name: 'prod' };
    await api.aliases.move(name, {
      ...{ adapter: checkpoint.adapter, base_model: 'tiny-llama', moved_by: client.owner },
      ...{ reason: null, rolled_back_to: null, guard: null, ifVersion: undefined },
    });
    const named = await client.call('DELETE', one);
    expect([named.status, named.body.detail]).toEqual([400, expect.stringContaining('prod')]);
    await api.aliases.remove(name);
    // The registry of this api does not run.
    expect((await client.call('DELETE', one)).status).toBe(503);
    expect(await store.checkpoints(id)).toEqual([checkpoint]);
  });
});
