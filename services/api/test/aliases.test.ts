import type { ChildProcess } from 'node:child_process';
import { cp, readFile } from 'node:fs/promises';
import path from 'node:path';
import { localModels } from '@lorasmith/base-models';
import { Alias, AliasList, type GenerationChunk } from '@lorasmith/contracts';
import { createGenerationServer } from '@lorasmith/queue';
import { Redis } from 'ioredis';
import { Value } from 'typebox/value';
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { adapterId, addBaseModel, publishReferenceAdapter, REFERENCE } from '../../registry/test/published-adapter.js';
import { tarOf } from '../../registry/test/tar-bytes.js';
import { createAccess, OPEN_ACCESS } from '../src/access/access.js';
import { KeyStore } from '../src/access/key-store.js';
import { promptRows, type RealApi, startRealApi } from './real-api.js';
import { startRegistry } from './registry-process.js';

// Names that point to adapters: the api with keys, a real Redis, and a real registry process.

const MODEL = 'llama-tied';
/** A base model with a tokenizer, and an adapter of it. */
const TOKENIZED = path.join(REFERENCE, '../lora-options/lora-plus');

let server: RealRedis;
let redis: Redis;
let keys: KeyStore;
let api: RealApi;
let folder: RealApi;
let registry: ChildProcess;
let one: Holder;
let other: Holder;

beforeAll(async () => {
  server = await startRealRedis();
  redis = new Redis(server.url, { maxRetriesPerRequest: null });
  const { prefix } = server;
  keys = new KeyStore({ redis, prefix });
  folder = await startRealApi({ redisUrl: server.url, prefix });
  const modelsDir = `${folder.folder}/models`;
  await addBaseModel(modelsDir, MODEL);
  await cp(path.join(TOKENIZED, 'base'), `${modelsDir}/with-tokenizer`, { recursive: true });
  const started = await startRegistry(folder.folder);
  registry = started.process;
  const limits = OPEN_ACCESS.limits;
  const access = createAccess({ redis, prefix, keys, withoutKeys: 'refuse', limits, uploadTimeoutMs: 60_000 });
  const { adapters, aliases } = folder;
  const baseModels = localModels(modelsDir);
  const changes = { access, registry: started.address, adapters, aliases, baseModels, dataDir: folder.folder };
  api = await startRealApi({ redisUrl: server.url, prefix, changes });
});
afterAll(async () => {
  registry?.kill('SIGKILL');
  await api?.stop();
  await folder?.stop();
  await redis?.quit();
  await server?.stop();
});

type Holder = Awaited<ReturnType<typeof holder>>;
async function holder(role: 'train' | 'read' | 'admin' = 'train', owner?: string) {
  const { key, token } = await keys.create({ name: 'k', role, ...(owner === undefined ? {} : { owner }) });
  const call = async (
    method: 'GET' | 'POST' | 'PUT' | 'DELETE' | 'HEAD',
    url: string,
    payload?: string | object,
    more: Record<string, string> = {},
  ) => {
    const headers = { authorization: `Bearer ${token}`, ...more };
    const answer = await api.app.inject({ method, url, headers, ...(payload === undefined ? {} : { payload }) });
    const isJson = String(answer.headers['content-type']).startsWith('application/json');
    return { status: answer.statusCode, headers: answer.headers, body: isJson && answer.body ? answer.json() : null };
  };
  return {
    id: key.id,
    token,
    call,
    point: async (name: string, adapter: string, more: object = {}) =>
      await call('PUT', `/aliases/${name}`, { adapter, ...more }),
  };
}
beforeEach(async () => {
  [one, other] = [await holder(), await holder()];
});

let published = 0;
async function adapterOf(user: Holder): Promise<string> {
  const id = adapterId(++published);
  await publishReferenceAdapter(folder.adapters, {
    id,
    name: MODEL,
    change(manifest) {
      manifest.owner = user.id;
    },
  });
  return id;
}
const END: GenerationChunk = { type: 'end', prompt_tokens: 3, completion_tokens: 1 };
/** Imports an adapter of a base model with a tokenizer. */
async function importAdapter(): Promise<string> {
  const files = ['adapter_config.json', 'adapter_model.safetensors'].map(async (name) => ({
    name,
    content: await readFile(path.join(TOKENIZED, 'adapter_init', name)),
  }));
  const tar = tarOf(await Promise.all(files));
  const { body } = await one.call('POST', '/adapters?base_model=with-tokenizer', tar, {
    'content-type': 'application/x-tar',
  });
  return body.id;
}
const outcome = ({ status, body }: { status: number; body: { error?: { code: string; param: string | null } } }) => [
  status,
  body.error?.code,
  body.error?.param,
];

describe('a name', () => {
  test('points to an adapter, is moved and rolled back, with its history', async () => {
    const [first, second, third] = [await adapterOf(one), await adapterOf(one), await adapterOf(one)];
    const made = await one.point('support-bot', first, { reason: 'the first' });
    expect(made).toMatchObject({
      status: 200,
      body: { name: 'support-bot', adapter: first, base_model: MODEL, version: 1, owner: one.id, moved_by: one.id },
    });
    expect(Value.Check(Alias, made.body)).toBe(true);
    expect((await one.point('support-bot', first)).body).toEqual(made.body);
    await one.point('support-bot', second);
    await one.point('support-bot', third, { if_version: 2, reason: 'nightly' });
    const back = async (body?: object) => await one.call('POST', '/aliases/support-bot/rollback', body);
    expect((await back()).body).toMatchObject({
      version: 4,
      adapter: second,
      history: [{ rolled_back_to: 2 }, {}, {}, {}],
    });
    // Once more goes back further, and not to the adapter that was left.
    expect((await back({ reason: 'worse' })).body).toMatchObject({
      version: 5,
      adapter: first,
      history: [{ rolled_back_to: 1, reason: 'worse' }, {}, {}, {}, {}],
    });
    expect(outcome(await back())).toEqual([409, 'conflict', null]);
    expect((await back({ version: 3 })).body).toMatchObject({ version: 6, adapter: third });
    expect(outcome(await back({ version: 99 }))).toEqual([409, 'conflict', 'version']);
    expect(outcome(await back({ version: 1, if_version: 5 }))).toEqual([409, 'conflict', 'if_version']);
    const shown = await one.call('GET', '/aliases/support-bot');
    expect(shown.body.history.map((move: { version: number }) => move.version)).toEqual([6, 5, 4, 3, 2, 1]);
    const list = (await one.call('GET', '/aliases')).body;
    expect(Value.Check(AliasList, list)).toBe(true);
    const { history: _, deliver: __, ...summary } = shown.body;
    expect(list.data).toEqual([summary]);
    expect((await one.call('DELETE', '/aliases/support-bot')).status).toBe(204);
    for (const [method, url] of [
      ['GET', '/aliases/support-bot'],
      ['POST', '/aliases/support-bot/rollback'],
      ['DELETE', '/aliases/support-bot'],
    ] as const) {
      expect(outcome(await one.call(method, url))).toEqual([404, 'alias_not_found', null]);
    }
    expect((await one.call('GET', '/aliases')).body.data).toEqual([]);
  });

  test('that is moved from one version by several requests at once is moved by one, and the others are a conflict', async () => {
    const adapters = [await adapterOf(one), await adapterOf(one), await adapterOf(one)];
    await one.point('bot', adapters[0]!);
    const moves = await Promise.all([1, 2, 1, 2].map((index) => one.point('bot', adapters[index]!, { if_version: 1 })));
    expect(moves.map(({ status }) => status).toSorted()).toEqual([200, 409, 409, 409]);
    const won = moves.find(({ status }) => status === 200)!.body;
    expect((await one.call('GET', '/aliases/bot')).body).toEqual(won);
    // Without a version, each of them happens.
    const all = await Promise.all([0, 1, 2].map((index) => one.point('all', adapters[index]!)));
    expect(all.map(({ body }) => body.version).toSorted()).toEqual([1, 2, 3]);
    const backs = await Promise.all([1, 2].map(() => one.call('POST', '/aliases/all/rollback')));
    const { history } = (await one.call('GET', '/aliases/all')).body;
    expect(history).toHaveLength(3 + backs.filter(({ status }) => status === 200).length);
  });

  test('may be that of another name', async () => {
    const [first, second] = [await adapterOf(one), await adapterOf(one)];
    await one.point('staging', second);
    await one.point('production', first);
    expect((await one.point('production', 'staging')).body).toMatchObject({ adapter: second, version: 2 });
  });

  test('belongs to a key, and so does its adapter', async () => {
    const [own, others] = [await adapterOf(one), await adapterOf(other)];
    await one.point('bot', own);
    await other.point('bot', others);
    expect((await one.call('GET', '/aliases/bot')).body.adapter).toBe(own);
    expect((await other.call('GET', '/aliases/bot')).body.adapter).toBe(others);
    expect(outcome(await one.point('mine', others))).toEqual([404, 'adapter_not_found', 'adapter']);
    expect(outcome(await one.call('GET', `/aliases?owner=${other.id}`))).toEqual([403, 'forbidden', 'owner']);
    expect((await one.call('GET', `/aliases?owner=${one.id}`)).body.data).toHaveLength(1);
    const reader = await holder('read', one.id);
    expect((await reader.call('GET', '/aliases/bot')).body.adapter).toBe(own);
    expect((await reader.point('bot', own)).status).toBe(403);
    expect((await reader.call('DELETE', '/aliases/bot')).status).toBe(403);

    const admin = await holder('admin');
    expect((await admin.call('GET', '/aliases')).body.data).toEqual([]);
    expect((await admin.call('GET', `/aliases?owner=${one.id}`)).body.data).toMatchObject([{ name: 'bot' }]);
    expect(outcome(await admin.point('bot', own))).toEqual([400, 'invalid_request', 'owner']);
    expect(outcome(await admin.point('bot?owner=none', own))).toEqual([400, 'invalid_request', 'owner']);
    const second = await adapterOf(one);
    const moved = await admin.point(`bot?owner=${one.id}`, second);
    expect(moved.body).toMatchObject({ owner: one.id, moved_by: admin.id, adapter: second });
    expect((await admin.call('DELETE', `/aliases/bot?owner=${one.id}`)).status).toBe(204);
    expect((await one.call('GET', '/aliases/bot')).status).toBe(404);
    expect((await other.call('GET', '/aliases/bot')).status).toBe(200);
  });

  test.each([
    ['that is no name', 'A', {}, 400, 'invalid_request', 'name'],
    ['that looks like an id', 'ad_x', {}, 400, 'invalid_request', 'name'],
    ['of a base model', 'tiny-llama', {}, 409, 'conflict', 'name'],
    ['without an adapter', 'bot', { adapter: undefined }, 400, 'invalid_request', 'adapter'],
    ['to a missing adapter', 'bot', { adapter: adapterId(999) }, 404, 'adapter_not_found', 'adapter'],
    ['to a missing name', 'bot', { adapter: 'nobody' }, 404, 'adapter_not_found', 'adapter'],
    ['to itself', 'bot', { adapter: 'bot' }, 404, 'adapter_not_found', 'adapter'],
    ['to a base model', 'bot', { adapter: 'SmolLM2' }, 400, 'invalid_request', 'adapter'],
    ['with a reason in two lines', 'bot', { reason: 'a\nb' }, 400, 'invalid_request', 'reason'],
    ['with a negative version', 'bot', { if_version: -1 }, 400, 'invalid_request', 'if_version'],
    ['with an unknown field', 'bot', { force: true }, 400, 'unknown_field', 'force'],
  ])('%s is refused, and nothing is moved', async (_what, name, changes, status, code, param) => {
    const answer = await one.point(name, await adapterOf(one), changes);
    expect(outcome(answer)).toEqual([status, code, param]);
    expect((await one.call('GET', '/aliases')).body.data).toEqual([]);
  });
});

describe('an adapter with a name', () => {
  test('is not deleted, by its id, its name or as a model, until the name is moved', async () => {
    const [first, second] = [await adapterOf(one), await adapterOf(one)];
    await one.point('bot', first);
    for (const url of [`/adapters/${first}`, '/adapters/bot', `/v1/models/${first}`, '/v1/models/bot']) {
      const refused = await one.call('DELETE', url);
      expect([url, refused.status, refused.body.error.code]).toEqual([url, 409, 'in_use']);
      expect(refused.body.error.message).toContain(`bot of ${one.id}`);
    }
    // A refused deletion keeps nobody from pointing another name at it.
    expect((await one.point('second', first)).status).toBe(200);
    await one.call('DELETE', '/aliases/second');
    await one.point('bot', second);
    expect((await one.call('DELETE', `/adapters/${first}`)).status).toBe(204);

    const back = await one.call('POST', '/aliases/bot/rollback');
    expect(outcome(back)).toEqual([409, 'conflict', 'version']);
    expect(back.body.error.message).toContain(`its adapter ${first} was deleted`);
    expect((await one.call('GET', '/aliases/bot')).body).toMatchObject({ adapter: second, version: 2 });
    expect(outcome(await one.point('bot', first))).toEqual([404, 'adapter_not_found', 'adapter']);
  });

  test('and a deletion at the same time: the adapter of a name is always there', async () => {
    for (let round = 0; round < 10; round++) {
      const id = await adapterOf(one);
      const [moved, deleted] = await Promise.all([one.point(`n${round}`, id), one.call('DELETE', `/adapters/${id}`)]);
      expect([200, 404]).toContain(moved.status);
      expect([204, 409]).toContain(deleted.status);
      const isThere = (await one.call('GET', `/adapters/${id}/record`)).status === 200;
      expect(isThere).toBe(deleted.status === 409);
      if (moved.status === 200) expect(isThere).toBe(true);
    }
  });

  test('is found by it wherever an id is taken, and the answer says which adapter it is', async () => {
    const [first, second] = [await adapterOf(one), await adapterOf(one)];
    await other.point('bot', await adapterOf(other));
    for (const id of [first, second]) {
      await one.point('bot', id);
      for (const part of ['/record', '/manifest', '/files', '/files/adapter_config.json', '', '?format=safetensors']) {
        const { status, headers } = await one.call('GET', `/adapters/bot${part}`);
        expect([part, status, headers['x-lorasmith-adapter']]).toEqual([part, 200, id]);
      }
      expect((await one.call('GET', '/adapters/bot/manifest')).body.id).toBe(id);
      const [byName, byId] = [await one.call('HEAD', '/adapters/bot'), await one.call('HEAD', `/adapters/${id}`)];
      expect(byName.headers.etag).toBe(byId.headers.etag);
    }
    expect(outcome(await one.call('GET', '/adapters/none/manifest')).slice(0, 2)).toEqual([404, 'adapter_not_found']);
  });
});

describe('as a model', () => {
  const SAID: GenerationChunk[] = [
    { type: 'text', choice: 0, text: 'Hi', tokens: [] },
    { type: 'finish', choice: 0, reason: 'stop' },
    END,
  ];

  /** Claims the next request for text, as a worker does, and answers it. */
  async function answered() {
    const worker = createGenerationServer({ redis, prefix: server.prefix, workerName: 'this-file' });
    onTestFinished(() => worker.close());
    for (;;) {
      const notice = worker.listen();
      await notice.ready;
      const claimed = await worker.claim(MODEL);
      if (claimed === null) await notice.wait(1_000);
      notice.close();
      if (claimed === null) continue;
      for (const piece of SAID) claimed.answer.write(piece);
      await claimed.answer.done;
      return claimed.request;
    }
  }

  test('a name is listed and described, and answers with the adapter that it points to now', async () => {
    const [first, second] = [await adapterOf(one), await adapterOf(one)];
    for (const id of [first, second]) {
      const { body } = await one.point('bot', id);
      const model = {
        id: 'bot',
        object: 'model',
        created: Math.floor(Date.parse(body.moved_at) / 1_000),
        owned_by: one.id,
        parent: MODEL,
      };
      expect((await one.call('GET', '/v1/models/bot')).body).toEqual(model);
      expect((await one.call('GET', '/v1/models')).body.data).toContainEqual(model);
      const messages = [{ role: 'user', content: 'Hello' }];
      for (const [url, payload] of [
        ['/v1/chat/completions', { model: 'bot', messages }],
        ['/v1/completions', { model: 'bot', prompt: 'Hello' }],
      ] as const) {
        const asked = one.call('POST', url, payload);
        expect(await answered()).toMatchObject({ base_model: MODEL, adapter: id });
        const { status, headers, body: text } = await asked;
        expect([url, status, text.model, headers['x-lorasmith-adapter']]).toEqual([url, 200, 'bot', id]);
      }
    }
    expect((await other.call('GET', '/v1/models')).body.data).not.toContainEqual(
      expect.objectContaining({ id: 'bot' }),
    );
    const hidden = await other.call('POST', '/v1/completions', { model: 'bot', prompt: 'Hello' });
    expect([hidden.status, hidden.body.error.code]).toEqual([404, 'model_not_found']);
  });

  test('a name precedes a base model that is added later', async () => {
    const id = await adapterOf(one);
    await one.point('later', id);
    await addBaseModel(`${folder.folder}/models`, MODEL);
    await cp(`${folder.folder}/models/${MODEL}`, `${folder.folder}/models/later`, { recursive: true });
    expect((await one.call('GET', '/v1/models/later')).body).toMatchObject({ id: 'later', parent: MODEL });
    const listed = (await one.call('GET', '/v1/models')).body.data.filter(
      (model: { id: string }) => model.id === 'later',
    );
    expect(listed).toMatchObject([{ parent: MODEL }]);
    expect((await other.call('GET', '/v1/models/later')).body).toMatchObject({ id: 'later', parent: null });
  });
});

describe('a job from a name', () => {
  test('continues the adapter that it pointed to when the job was accepted, however often the request is repeated', async () => {
    const [first, second] = [await importAdapter(), await importAdapter()];
    await one.point('bot', first);
    const rows = await one.call('POST', '/datasets', promptRows(4), { 'content-type': 'application/x-ndjson' });
    const request = { base_model: 'with-tokenizer', dataset: rows.body.id, lora: { init_from: 'bot' } };
    const post = async (key: string) => await one.call('POST', '/jobs', request, { 'idempotency-key': key });
    const { status, body: job } = await post('a');
    expect([status, job.lora.init_from]).toEqual([202, first]);
    await one.point('bot', second);
    expect((await post('a')).body).toMatchObject({ id: job.id, lora: { init_from: first } });
    expect((await post('b')).body.lora.init_from).toBe(second);
    expect((await one.call('POST', '/jobs?dry_run=true', request)).status).toBe(200);
    const fineTuning = await one.call('POST', '/v1/fine_tuning/jobs', { model: 'bot', training_file: rows.body.id });
    expect([fineTuning.status, (await one.call('GET', `/jobs/${fineTuning.body.id}`)).body.lora.init_from]).toEqual([
      200,
      second,
    ]);
    const missing = { ...request, lora: { init_from: 'nobody' } };
    expect(outcome(await one.call('POST', '/jobs', missing))).toEqual([404, 'adapter_not_found', 'lora.init_from']);
    expect((await one.call('DELETE', `/adapters/${first}`)).body.error).toMatchObject({
      code: 'in_use',
      message: expect.stringContaining(job.id),
    });
  });
});

describe('a move with a guard', () => {
  const TOKENS = 'with-tokenizer';
  const upload = async (text: string) =>
    (await one.call('POST', '/datasets', text, { 'content-type': 'application/x-ndjson' })).body.id as string;
  const guardOf = (dataset: string, max_worse = 0.5) => ({ guard: { dataset, metric: 'loss', max_worse } });

  /** Claims requests as a worker, until there are so many at the same time. */
  async function claimed(count: number) {
    const worker = createGenerationServer({ redis, prefix: server.prefix, workerName: 'this-file' });
    onTestFinished(() => worker.close());
    const open: NonNullable<Awaited<ReturnType<typeof worker.claim>>>[] = [];
    while (open.length < count) {
      const notice = worker.listen();
      await notice.ready;
      const one = await worker.claim(TOKENS);
      if (one === null) await notice.wait(1_000);
      else open.push(one);
      notice.close();
    }
    return open;
  }
  type Claimed = Awaited<ReturnType<typeof claimed>>[number];

  /** Answers that each token but the first has this loss. @param tokens - How many are left out of the answer */
  async function say({ request, answer }: Claimed, loss: number, missing = 0): Promise<void> {
    const prompts = request.input.kind === 'text' ? (request.input.prompts as number[][]) : [];
    for (const [choice, prompt] of prompts.entries()) {
      const tokens = prompt.slice(missing).map((_, index) => {
        const logprob = index === 0 ? null : -loss;
        return { text: 'x', bytes: [120], logprob, offset: index, top: [] };
      });
      answer.write({ type: 'text', choice, text: 'x', tokens });
      answer.write({ type: 'finish', choice, reason: 'length' });
    }
    answer.write(END);
    await answer.done;
  }

  test('asks for both adapters at once, and moves the name if the new one is not worse by more', async () => {
    const [first, second, dataset] = [await importAdapter(), await importAdapter(), await upload(promptRows(20))];
    const made = one.point('bot', first, guardOf(dataset));
    // A page of 16 rows, and one of 4.
    for (const rows of [16, 4]) {
      const [alone] = await claimed(1);
      expect(alone!.request).toMatchObject({ adapter: first, max_tokens: 0, logprobs: 0, input: { echo: true } });
      expect(alone!.request.input).toHaveProperty('prompts.length', rows);
      await say(alone!, 2);
    }
    expect((await made).body.history[0].guard).toEqual({
      dataset,
      metric: 'loss',
      max_worse: 0.5,
      before: null,
      after: 2,
    });

    /** Answers for both adapters, and returns what the caller gets. */
    const compare = async (losses: Record<string, number>, more: object = {}) => {
      const moving = one.point('bot', second, { ...guardOf(dataset), ...more });
      for (let page = 0; page < 2; page++) {
        const open = await claimed(2);
        expect(new Set(open.map(({ request }) => request.adapter))).toEqual(new Set([first, second]));
        for (const asked of open) await say(asked, losses[asked.request.adapter!]!);
      }
      return await moving;
    };
    const refused = await compare({ [first]: 2, [second]: 2.75 });
    expect(outcome(refused)).toEqual([409, 'guard_failed', 'guard']);
    expect(refused.body.error.message).toContain('is 2.75000');
    expect((await compare({ [first]: 2, [second]: Number.NaN })).body.error.code).toBe('guard_failed');
    expect((await compare({ [first]: Number.NaN, [second]: 2 })).body.error.code).toBe('guard_failed');
    const unknown = one.point('another', first, guardOf(dataset));
    for (const losses of [2, Number.NaN]) for (const asked of await claimed(1)) await say(asked, losses);
    expect((await unknown).body.error.message).toContain(`the loss of ${first} is NaN.`);
    expect((await one.call('GET', '/aliases/bot')).body).toMatchObject({ adapter: first, version: 1 });
    const moved = await compare({ [first]: 2, [second]: 2.5 }, { if_version: 1, reason: 'nightly' });
    expect(moved.body.history[0]).toMatchObject({ version: 2, adapter: second, guard: { before: 2, after: 2.5 } });
    // To the adapter that it has: nothing is computed.
    expect((await one.point('bot', second, guardOf(dataset))).body.version).toBe(2);
  });

  test('moves nothing if the name moves meanwhile, the worker fails, or it answers about other tokens', async () => {
    const [first, second, third] = [await importAdapter(), await importAdapter(), await importAdapter()];
    const dataset = await upload(promptRows(3));
    await one.point('bot', first);
    const overtaken = one.point('bot', second, guardOf(dataset));
    const open = await claimed(2);
    await one.point('bot', third);
    for (const asked of open) await say(asked, 1);
    expect(outcome(await overtaken)).toEqual([409, 'conflict', 'if_version']);

    const failing = one.point('bot', second, guardOf(dataset));
    for (const { answer } of await claimed(2)) {
      answer.write({ type: 'failed', failure: { code: 'context_length_exceeded', message: 'Too long.' } });
      await answer.done;
    }
    expect(outcome(await failing)).toEqual([400, 'context_length_exceeded', 'guard.dataset']);
    const other = one.point('bot', second, guardOf(dataset));
    for (const asked of await claimed(2)) await say(asked, 1, 1);
    expect((await other).status).toBe(500);
    expect((await one.call('GET', '/aliases/bot')).body).toMatchObject({ adapter: third, version: 2 });
  });

  test('stops asking when its caller leaves', async () => {
    const [first, dataset] = [await importAdapter(), await upload(promptRows(3))];
    const url = await api.app.listen({ host: '127.0.0.1', port: 0 });
    const leaving = new AbortController();
    const left = fetch(`${url}/aliases/bot`, {
      method: 'PUT',
      headers: { authorization: `Bearer ${one.token}`, 'content-type': 'application/json' },
      body: JSON.stringify({ adapter: first, ...guardOf(dataset) }),
      signal: leaving.signal,
    });
    const [asked] = await claimed(1);
    leaving.abort();
    await expect(left).rejects.toThrow();
    await expect.poll(() => redis.keys(`${server.prefix}generation:*`), { interval: 5 }).toEqual([]);
    await asked!.answer.done;
    expect((await one.call('GET', '/aliases/bot')).status).toBe(404);
  });

  test('is refused for a dataset or a bound that cannot be used', async () => {
    const [first, others] = [await importAdapter(), await adapterOf(one)];
    const rows = await upload(promptRows(3));
    const pairs = await upload('{"prompt":"a","chosen":"b","rejected":"c"}\n');
    const missing = `ds_${'0'.repeat(24)}`;
    const foreign = (
      await other.call('POST', '/datasets', promptRows(3, 'theirs'), { 'content-type': 'application/x-ndjson' })
    ).body.id;
    for (const [guard, expected] of [
      [guardOf(missing), [404, 'dataset_not_found', 'guard.dataset']],
      [guardOf(foreign), [404, 'dataset_not_found', 'guard.dataset']],
      [guardOf(pairs), [400, 'invalid_request', 'guard.dataset']],
      [guardOf(rows, -1), [400, 'invalid_request', 'guard.max_worse']],
      [{ guard: { dataset: rows, metric: 'reward', max_worse: 0 } }, [400, 'invalid_request', 'guard.metric']],
      [{ guard: { dataset: rows, metric: 'loss' } }, [400, 'invalid_request', 'guard.max_worse']],
    ] as const) {
      expect(outcome(await one.point('bot', first, guard))).toEqual(expected);
    }
    await one.point('bot', others);
    expect(outcome(await one.point('bot', first, guardOf(rows)))).toEqual([409, 'conflict', 'guard']);
    expect((await one.call('GET', '/aliases/bot')).body.version).toBe(1);
  });
});

test('without keys, names belong to nobody', async () => {
  const open = await startRealApi({ redisUrl: server.url, prefix: `${server.prefix}open:` });
  onTestFinished(() => open.stop());
  await publishReferenceAdapter(open.adapters, { id: adapterId(1), name: MODEL });
  const put = async (url: string) =>
    (await open.app.inject({ method: 'PUT', url, payload: { adapter: adapterId(1) } })).json();
  expect(await put('/aliases/bot')).toMatchObject({ owner: null, moved_by: null, version: 1 });
  expect(await put('/aliases/bot?owner=none')).toMatchObject({ owner: null, version: 1 });
});
