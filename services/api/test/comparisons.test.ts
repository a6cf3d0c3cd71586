import type { ServerResponse } from 'node:http';
import {
  type Comparison,
  type ComparisonRequest,
  type ComparisonRowPage,
  type Dataset,
  type ErrorBody,
  type GenerationRequest,
  type PairJudge,
  ProductError,
} from '@lorasmith/contracts';
import { createGenerationClient, createGenerationServer, jobKeys } from '@lorasmith/queue';
import { createLogger } from '@lorasmith/service-kit';
import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { JUDGE_TOKENS, JudgeServer, LONGER } from '../../../test/judge-server.js';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { writeTinyLlama } from '../../../test/tiny-llama.js';
import { adapterId, addBaseModel, publishReferenceAdapter } from '../../registry/test/published-adapter.js';
import { createAccess, OPEN_ACCESS } from '../src/access/access.js';
import { KeyStore } from '../src/access/key-store.js';
import { type ComparisonRunnerOptions, startComparisons } from '../src/comparisons/comparison-runner.js';
import { JudgeClient } from '../src/judging/judge-client.js';
import { type RealApi, startRealApi } from './real-api.js';

// The routes and the runner with a real Redis and real files, a server with the chat call of the OpenAI API as the judge, and the worker's
// side of the models that are compared.

const KEY = 'sk-secret-of-the-operator';
const ADAPTER = adapterId(1);
const logged: string[] = [];
const log = createLogger({
  ...{ service: 'api', level: 'info' },
  destination: { write: (line: string) => logged.push(line) },
});

const status =
  (code: number, headers = {}) =>
  (to: ServerResponse) =>
    to.writeHead(code, headers).end(KEY);

let server: RealRedis;
let redis: Redis;
let keys: KeyStore;
let api: RealApi;
let judge: JudgeServer;
let judgeClient: JudgeClient;
let generation: ReturnType<typeof createGenerationClient>;
/** The requests to the models. */
let requests: GenerationRequest[];
/** The answer of a model; an error fails it. */
let answering: (model: string, prompt: string) => string | ProductError | Promise<string>;
let stop: () => Promise<void>;
let workers: (() => unknown)[];
let authorization: string;

beforeAll(async () => {
  server = await startRealRedis();
  redis = new Redis(server.url, { maxRetriesPerRequest: null });
  const { prefix } = server;
  judge = await new JudgeServer(KEY).start();
  keys = new KeyStore({ redis, prefix });
  const limits = OPEN_ACCESS.limits;
  const access = createAccess({ redis, prefix, keys, withoutKeys: 'refuse', limits, uploadTimeoutMs: 60_000 });
  generation = createGenerationClient({ redis, prefix });
  const models = { resolve: () => Promise.reject(new ProductError('model_not_found', 'There is no such judge.')) };
  judgeClient = new JudgeClient({
    ...{ config: { servers: [judge.url], apiKey: KEY }, models, generation, limits: { maxTokens: 100 } },
  });
  api = await startRealApi({ redisUrl: server.url, prefix, changes: { access, judgeClient } });
  await writeTinyLlama(`${api.folder}/models/other-llama`);
  await addBaseModel(`${api.folder}/models`, 'llama-tied');
});
afterAll(async () => {
  judge?.stop();
  generation?.close();
  await api?.stop();
  redis?.disconnect();
  await server?.stop();
});
beforeEach(async () => {
  [judge.messages, requests, workers] = [[], [], []];
  judge.judging = LONGER;
  answering = (model, prompt) => (model === 'tiny-llama' ? `A long answer to ${prompt}.` : `To ${prompt}.`);
  authorization = `Bearer ${(await keys.create({ name: 'one', role: 'train' })).token}`;
  run();
  for (const base of ['tiny-llama', 'other-llama', 'llama-tied']) work(base);
});
afterEach(async () => {
  await Promise.all([stop(), ...workers.map((end) => end())]);
});

function run(changes: Partial<ComparisonRunnerOptions> = {}): void {
  stop = startComparisons({
    ...{ store: api.jobs.comparisons, datasets: api.datasets, generation, judges: judgeClient, log },
    ...{ delaysMs: [1, 1], patienceMs: 20_000, pollMs: 5, renewMs: 20 },
    ...changes,
  });
}

/** A worker of a base model. */
function work(base: string): void {
  const worker = createGenerationServer({ redis, prefix: server.prefix, workerName: `of-${base}` });
  const over = new AbortController();
  const loop = async () => {
    while (!over.signal.aborted) {
      const notice = worker.listen();
      await notice.ready;
      const claimed = await worker.claim(base).catch(() => null);
      if (claimed === null) await notice.wait(200, over.signal);
      notice.close();
      if (claimed !== null) void answer(claimed);
    }
  };
  const answer = async ({ request, answer: to }: NonNullable<Awaited<ReturnType<typeof worker.claim>>>) => {
    requests.push(request);
    const { input } = request;
    if (input.kind === 'tokens') throw new Error('a comparison asks for text');
    const prompt = input.kind === 'chat' ? String(input.messages.at(-1)!.content) : String(input.prompts[0]);
    const text = await answering(request.adapter ?? request.base_model, prompt);
    if (text instanceof ProductError) to.write({ type: 'failed', failure: { code: text.code, message: text.message } });
    else {
      to.write({ type: 'start', precision: 'float32' });
      to.write({ type: 'text', choice: 0, text, tokens: [] });
      to.write({ type: 'finish', choice: 0, reason: 'stop' });
      to.write({ type: 'end', prompt_tokens: 3, completion_tokens: 2 });
    }
    await to.done;
  };
  const running = loop();
  workers.push(async () => {
    over.abort();
    await running;
    worker.close();
  });
}

async function call<Body = Comparison & ErrorBody>(method: 'GET' | 'POST' | 'DELETE', path: string, payload?: object) {
  const headers = { authorization, accept: 'application/json' };
  const got = await api.app.inject({ method, url: path, headers, ...(payload === undefined ? {} : { payload }) });
  return { status: got.statusCode, body: (got.body === '' ? null : got.json()) as Body };
}
async function upload(rows: readonly object[]): Promise<Dataset> {
  const headers = { authorization, 'content-type': 'application/x-ndjson' };
  const payload = rows.map((row) => JSON.stringify(row)).join('\n');
  const got = await api.app.inject({ method: 'POST', url: '/datasets', headers, payload });
  expect(got.statusCode).toBeLessThan(202);
  return got.json();
}
const chat = (question: string, answer?: string) => ({
  messages: [
    { role: 'user', content: question },
    ...(answer === undefined ? [] : [{ role: 'assistant', content: answer }]),
  ],
});
const questions = (count: number) => Array.from({ length: count }, (_, i) => chat(`question ${i}`, `answer ${i}`));
type Changes = Partial<Omit<ComparisonRequest, 'judge'>> & { judge?: Partial<PairJudge> };
const requestOf = (dataset: string, { judge: judgeChanges, ...changes }: Changes = {}) => ({
  ...{ models: ['tiny-llama', 'other-llama'], dataset, max_tokens: 50 },
  judge: { model: 'judge-1', url: judge.url, rubric: 'The longer one.', ...judgeChanges },
  ...changes,
});
async function create(dataset: string, changes: Changes = {}): Promise<Comparison> {
  const { status: code, body } = await call('POST', '/comparisons', requestOf(dataset, changes));
  expect([code, body.error]).toEqual([202, null]);
  return body;
}
async function ended({ id }: Comparison): Promise<Comparison> {
  const read = async () => (await call('GET', `/comparisons/${id}`)).body;
  await expect.poll(read, { timeout: 20_000 }).toMatchObject({ ended_at: expect.any(String) });
  return await read();
}
const compare = async (dataset: string, changes: Changes = {}) => await ended(await create(dataset, changes));
const rowsOf = async ({ id }: Comparison, query = '?limit=100') =>
  (await call<ComparisonRowPage>('GET', `/comparisons/${id}/rows${query}`)).body;

test('the better of two models is found, and each row is there side by side', async () => {
  const { id: dataset } = await upload(questions(12));
  const comparison = await create(dataset, { name: 'long or short' });
  expect(comparison).toMatchObject({
    ...{ status: 'queued', rows: 100, temperature: 0, seed: 0, result: null, name: 'long or short' },
    models: [{ name: 'tiny-llama', base_model: 'tiny-llama', adapter: null }, { base_model: 'other-llama' }],
  });
  const { status: state, progress, result, error } = await ended(comparison);
  expect([state, progress, error]).toEqual(['succeeded', { rows: 12, total: 12 }, null]);
  expect(result).toEqual({
    ...{ rows: 12, wins: 12, losses: 0, ties: 0, identical: 0, failed: 0, win_rate: 1, verdict: 'a' },
    ...{ interval: [expect.closeTo(0.7575, 3), 1], position_bias: 0, order_decided: 0, failures: [] },
    tokens: { answers: [24, 24], judge: 24 * JUDGE_TOKENS },
  });
  // Both orders, each once.
  expect(judge.messages).toHaveLength(24);
  expect(judge.messages.filter((message) => message.includes('[start of answer A]\nTo question'))).toHaveLength(12);
  expect(requests).toHaveLength(24);
  expect(requests[0]).toMatchObject({ max_tokens: 50, temperature: 0, seed: 0, input: { kind: 'chat' } });
  const first = await rowsOf(comparison, '?limit=5');
  expect(first).toMatchObject({ has_more: true, next: 5 });
  expect(first.data.map(({ number }) => number)).toEqual([1, 2, 3, 4, 5]);
  expect(first.data[0]).toMatchObject({
    ...{ line: 1, prompt: 'user: question 0', reference: 'answer 0', outcome: 'win', error: null },
    answers: [{ text: 'A long answer to question 0.', tokens: 2, is_cut: false }, { text: 'To question 0.' }],
    verdicts: [
      { prefers: 'a', text: 'Verdict: A', tokens: JUDGE_TOKENS },
      { prefers: 'a', text: 'Verdict: B', tokens: JUDGE_TOKENS },
    ],
  });
  expect(await rowsOf(comparison, '?after=10')).toMatchObject({ data: [{ number: 11 }, { number: 12 }], next: null });
  const events = (await call<{ data: { type: string }[] }>('GET', `/comparisons/${comparison.id}/events`)).body.data;
  expect([...new Set(events.map(({ type }) => type))]).toEqual([
    ...['comparison-queued', 'comparison-started', 'comparison-progressed', 'comparison-succeeded'],
  ]);
  expect((await call<{ data: Comparison[] }>('GET', '/comparisons')).body.data.map(({ id }) => id)).toEqual([
    comparison.id,
  ]);
});

test('a judge that always says A decides nothing: all are ties, by their order', async () => {
  judge.judging = () => 'A';
  const { result } = await compare((await upload(questions(6))).id);
  expect(result).toMatchObject({
    ...{ ties: 6, wins: 0, losses: 0, win_rate: 0.5, interval: null, verdict: 'undecided' },
    ...{ position_bias: 1, order_decided: 6, identical: 0 },
  });
});

test('the right answer wins where the rubric reads that of the row, and few rows decide nothing', async () => {
  judge.judging = ([first, second], message) => {
    const wanted = /as "(.*?)"/.exec(message)![1]!;
    return `Verdict: ${first === wanted ? 'A' : second === wanted ? 'B' : 'tie'}`;
  };
  answering = (model, prompt) => (model === 'other-llama' ? prompt.replace('question', 'answer') : 'wrong');
  const rows = [true, true, true, false].map((label, i) => ({
    prompt: `question ${i}`,
    completion: `answer ${i}`,
    label,
  }));
  // An answer that is not wanted is no reference.
  const { id } = await upload(rows);
  const comparison = await compare(id, { judge: { rubric: 'The same as "{{item.reference}}".' } });
  expect(comparison.result).toMatchObject({
    ...{ rows: 3, losses: 3, failed: 1, win_rate: 0, verdict: 'undecided' },
    failures: [{ reason: 'The row has no reference, which the rubric reads.', rows: 1 }],
  });
});

test('answers that are the same are ties of which no judge is asked', async () => {
  answering = (model, prompt) => (prompt.endsWith('1') ? 'same' : model);
  const { result } = await compare((await upload(questions(3))).id);
  expect(result).toMatchObject({ ties: 1, identical: 1, losses: 2, position_bias: 0 });
  expect(judge.messages).toHaveLength(4);
});

test('the stored answers of another service are compared with an adapter, over the rows that have one', async () => {
  await publishReferenceAdapter(api.adapters, {
    ...{ id: ADAPTER, name: 'llama-tied' },
    change(manifest) {
      manifest.owner = null;
    },
  });
  authorization = `Bearer ${(await keys.create({ name: 'admin', role: 'admin' })).token}`;
  const { id: answers } = await upload([chat('question 2', 'the old answer'), chat('question 4', 'an old answer')]);
  const { id: dataset } = await upload(
    questions(5).map(({ messages: [ask] }) => ({ prompt: ask!.content, completion: 'x' })),
  );
  const comparison = await compare(dataset, { models: [ADAPTER, answers] });
  expect(comparison).toMatchObject({
    status: 'succeeded',
    models: [
      { adapter: ADAPTER, base_model: 'llama-tied' },
      { answers, base_model: null },
    ],
    result: { rows: 2, tokens: { answers: [4, 0] } },
  });
  expect((await rowsOf(comparison)).data.map(({ line, answers: [, old] }) => [line, old!.text])).toEqual([
    [3, 'the old answer'],
    [5, 'an old answer'],
  ]);
  const { id: others } = await upload([chat('another question', 'x')]);
  expect(await compare(others, { models: [ADAPTER, answers] })).toMatchObject({
    ...{ status: 'failed', error: { code: 'invalid_comparison', message: expect.stringContaining(answers) } },
  });
});

test('rows are drawn by the seed, the same for the same one', async () => {
  const { id } = await upload(questions(30));
  const lines = async (seed: number) =>
    (await rowsOf(await compare(id, { rows: 4, seed }))).data.map(({ line }) => line);
  const first = await lines(1);
  expect(first).toHaveLength(4);
  expect(await lines(1)).toEqual(first);
  expect(await lines(2)).not.toEqual(first);
});

test('a judge that answers prose for some rows fails these alone', async () => {
  judge.judging = (answers, message) => (message.includes('question 1') ? 'Both are nice.' : LONGER(answers, message));
  const { status: state, result } = await compare((await upload(questions(3))).id);
  expect(state).toBe('succeeded');
  expect(result).toMatchObject({
    rows: 2,
    failed: 1,
    failures: [{ rows: 1, reason: expect.stringContaining('Both are nice.') }],
  });
});

test('a judge that is busy is asked again, and a worker that is, too', async () => {
  let busy = 2;
  judge.judging = (answers, message) => (busy-- > 0 ? status(429, { 'retry-after': '0' }) : LONGER(answers, message));
  let lost = 1;
  answering = (model) => (lost-- > 0 ? new ProductError('service_unavailable', 'Busy.') : model);
  await stop();
  run({ patienceMs: 3_000 });
  const { result } = await compare((await upload(questions(2))).id);
  expect(result).toMatchObject({ rows: 2, failed: 0 });
});

describe('the comparison fails, with its reason and without the secret,', () => {
  test.each<[string, JudgeServer['judging'], string]>([
    ['for a key that is wrong', () => status(401), 'JUDGE_API_KEY'],
    ['for a form that is another', () => (to) => to.writeHead(200).end('{"verdict": "A"}'), 'form of the OpenAI API'],
    ['for a judge that answers prose alone', () => 'I like both.', '10 rows failed one after the other'],
    ['for a judge that is broken', () => status(500), 'it answered 500'],
    ['for a judge that is busy', () => status(429), 'it answered 429'],
  ])('%s', async (_, answer, message) => {
    judge.judging = answer;
    const comparison = await compare((await upload(questions(14))).id);
    expect(comparison).toMatchObject({
      ...{ status: 'failed', error: { code: 'judge_failed', message: expect.stringContaining(message) } },
    });
    expect(JSON.stringify([comparison, await rowsOf(comparison)])).not.toContain(KEY);
  });

  test('for a judge that hangs, where all rows do', async () => {
    judge.judging = () => () => {};
    const { error } = await compare((await upload(questions(1))).id, { judge: { timeout_seconds: 1 } });
    expect(error).toMatchObject({ code: 'judge_failed', message: expect.stringContaining('no answer within 1 s') });
  });

  test('for a model that is deleted midway; what was judged stays', async () => {
    let answers = 0;
    answering = (model) => (++answers > 12 ? new ProductError('adapter_not_found', 'There is no adapter.') : model);
    const { error, result } = await compare((await upload(questions(20))).id);
    expect(error).toMatchObject({ code: 'adapter_not_found' });
    expect(result!.rows).toBeGreaterThan(0);
    expect(result!.rows).toBeLessThan(20);
  });

  test('for a dataset that is deleted while it waits', async () => {
    await stop();
    const { id } = await upload(questions(2));
    const comparison = await create(id);
    await call('DELETE', `/datasets/${id}`);
    run();
    expect(await ended(comparison)).toMatchObject({ status: 'failed', error: { code: 'dataset_not_found' } });
  });

  test('where every prompt is too long', async () => {
    answering = () => new ProductError('context_length_exceeded', 'The prompt has 9 tokens.');
    const { error, result } = await compare((await upload(questions(2))).id);
    expect(error).toMatchObject({ code: 'judge_failed', message: expect.stringContaining('none of 2 rows') });
    expect(result).toMatchObject({ failed: 2, win_rate: null });
  });
});

test('one that is cancelled keeps what was judged, and is deleted', async () => {
  let answers = 0;
  answering = (model) => (++answers > 16 ? new Promise(() => {}) : model);
  const comparison = await create((await upload(questions(20))).id);
  expect((await call('DELETE', `/comparisons/${comparison.id}`)).body.error.code).toBe('comparison_still_active');
  const read = async () => (await call('GET', `/comparisons/${comparison.id}`)).body;
  await expect.poll(async () => (await read()).progress?.rows ?? 0, { timeout: 10_000 }).toBeGreaterThan(0);
  expect((await call('POST', `/comparisons/${comparison.id}/cancel`)).status).toBe(202);
  const { status: state, result } = await ended(comparison);
  expect(state).toBe('cancelled');
  expect(result!.rows).toBeGreaterThan(0);
  expect((await call('POST', `/comparisons/${comparison.id}/cancel`)).status).toBe(200);
  expect((await call('DELETE', `/comparisons/${comparison.id}`)).status).toBe(204);
  expect((await read()).error).toMatchObject({ code: 'comparison_not_found' });
});

test('another process asks again neither for answers nor for verdicts that are there', async () => {
  let answers = 0;
  answering = (model, prompt) => (++answers > 12 ? new Promise(() => {}) : `${model} ${prompt}`);
  const comparison = await create((await upload(questions(10))).id);
  const read = async () => (await call('GET', `/comparisons/${comparison.id}`)).body;
  await expect.poll(async () => (await read()).progress?.rows ?? 0, { timeout: 10_000 }).toBeGreaterThan(2);
  await stop();
  const kept = (await rowsOf(comparison)).data;
  const [keptAnswers, keptVerdicts] = [
    kept.filter(({ answers: [a] }) => a !== null).length * 2,
    kept.flatMap(({ verdicts }) => verdicts).filter((verdict) => verdict !== null).length,
  ];
  answering = (model, prompt) => `${model} ${prompt}`;
  [requests, judge.messages] = [[], []];
  run();
  expect((await ended(comparison)).result).toMatchObject({ rows: 10, failed: 0 });
  expect(requests.length).toBe(20 - keptAnswers);
  expect(judge.messages.length).toBe(20 - keptVerdicts);
});

test('a name is what it meant when the comparison was asked for', async () => {
  const { key, token } = await keys.create({ name: 'admin', role: 'admin' });
  authorization = `Bearer ${token}`;
  await api.aliases.move(
    { owner: key.id, name: 'best' },
    {
      adapter: ADAPTER,
      base_model: 'llama-tied',
      moved_by: null,
      reason: null,
      rolled_back_to: null,
      guard: null,
      ifVersion: 0,
    },
  );
  const { id } = await upload(questions(1));
  const { models, result } = await compare(id, { models: ['best', 'tiny-llama'] });
  expect(models[0]).toMatchObject({ name: 'best', adapter: ADAPTER });
  expect(result).toMatchObject({ losses: 1 });
  const same = await call('POST', '/comparisons', requestOf(id, { models: ['best', ADAPTER] }));
  expect(same.body.error).toMatchObject({ code: 'invalid_comparison', param: 'models' });
});

describe('a request is refused', () => {
  test.each<[string, Changes, string, string, string]>([
    [
      'for a model against itself',
      { models: ['tiny-llama', 'tiny-llama'] },
      'invalid_comparison',
      'models',
      'the same',
    ],
    ['for an unknown model', { models: ['tiny-llama', 'gone'] }, 'model_not_found', 'models.1', 'gone'],
    ['for an unknown adapter', { models: [adapterId(9), 'tiny-llama'] }, 'adapter_not_found', 'models.0', 'no adapter'],
    [
      'for unknown answers',
      { models: [`ds_${'0'.repeat(24)}`, 'tiny-llama'] },
      'dataset_not_found',
      'models.0',
      'no dataset',
    ],
    ['for an unknown dataset', { dataset: `ds_${'0'.repeat(24)}` }, 'dataset_not_found', 'dataset', 'no dataset'],
    ['for 10,000 rows', { rows: 10_000 }, 'invalid_request', 'rows', '500'],
    ['for one model', { models: ['tiny-llama'] }, 'invalid_request', 'models', ''],
    [
      'for more tokens than the service has',
      { max_tokens: 101 },
      'invalid_request',
      'max_tokens',
      'GENERATION_MAX_TOKENS',
    ],
    [
      'for a server of nobody',
      { judge: { url: 'https://elsewhere.example/v1' } },
      'invalid_comparison',
      'judge.url',
      'JUDGE_SERVERS',
    ],
    [
      'for a judge that is not there',
      { judge: { url: undefined as never } },
      'invalid_comparison',
      'judge.model',
      'no such judge',
    ],
    ['for a pattern that is none', { judge: { pattern: '(' } }, 'invalid_comparison', 'judge.pattern', 'RE2'],
    [
      'for a rubric with another place',
      { judge: { rubric: '{{answer}}' } },
      'invalid_comparison',
      'judge.rubric',
      'answer',
    ],
    [
      'for a rubric that is too long',
      { judge: { rubric: 'x'.repeat(5_000) } },
      'invalid_request',
      'judge.rubric',
      '4096',
    ],
  ])('%s', async (_, changes, code, param, message) => {
    const { id } = await upload(questions(1));
    const { body } = await call('POST', '/comparisons', requestOf(id, changes));
    expect(body.error).toMatchObject({ code });
    expect([body.error.param, ...body.error.details.map((fault) => fault.param)]).toContain(param);
    expect(JSON.stringify(body.error)).toContain(message);
  });

  test('for rows without prompts', async () => {
    const { id } = await upload([{ text: 'only a text' }]);
    const { body } = await call('POST', '/comparisons', requestOf(id));
    expect(body.error).toMatchObject({
      code: 'invalid_comparison',
      param: 'dataset',
      message: expect.stringContaining('format text'),
    });
  });

  test('for things of another key, which also sees none of the comparison', async () => {
    const { id } = await upload(questions(1));
    const comparison = await compare(id);
    authorization = `Bearer ${(await keys.create({ name: 'other', role: 'train' })).token}`;
    expect((await call('POST', '/comparisons', requestOf(id))).body.error).toMatchObject({ code: 'dataset_not_found' });
    for (const [method, path] of [
      ...[['GET', ''] as const, ['GET', '/rows'] as const, ['GET', '/events'] as const],
      ...[['POST', '/cancel'] as const, ['DELETE', ''] as const],
    ]) {
      const { status: code, body } = await call(method, `/comparisons/${comparison.id}${path}`);
      expect([code, body.error.code], `${method} ${path}`).toEqual([404, 'comparison_not_found']);
    }
    expect((await call<{ data: Comparison[] }>('GET', '/comparisons')).body.data).toEqual([]);
    authorization = `Bearer ${(await keys.create({ name: 'reader', role: 'read' })).token}`;
    expect((await call('POST', '/comparisons', requestOf(id))).body.error).toMatchObject({ code: 'forbidden' });
  });
});

test('datasets of preferences and of prompts give their prompts', async () => {
  const pairs = await upload([{ prompt: 'question p', chosen: 'good', rejected: 'bad' }]);
  const graded = await upload([{ prompt: [{ role: 'user', content: 'question g' }], reference: { city: 'Rome' } }]);
  expect((await rowsOf(await compare(pairs.id))).data[0]).toMatchObject({
    prompt: 'user: question p',
    reference: 'good',
  });
  const judged = await compare(graded.id, { judge: { rubric: 'Prefer {{item.reference.city}}.' } });
  expect((await rowsOf(judged)).data[0]).toMatchObject({ prompt: 'user: question g', reference: '{"city":"Rome"}' });
  expect(judge.messages.at(-1)).toContain('Prefer Rome.');
});

test('the key of the operator is in no line of the log, and nowhere in Redis', async () => {
  judge.judging = () => status(401);
  await compare((await upload(questions(2))).id);
  expect(logged.join('')).toContain('a comparison failed');
  expect(logged.join('')).not.toContain(KEY);
  const { comparisons } = jobKeys(server.prefix);
  expect(await redis.zcard(comparisons)).toBeGreaterThan(0);
  for (const key of await redis.keys(`${server.prefix}comparison:*`)) {
    const type = await redis.type(key);
    const value = type === 'hash' ? await redis.hgetall(key) : await redis.xrange(key, '-', '+');
    expect(JSON.stringify(value)).not.toContain(KEY);
  }
});
