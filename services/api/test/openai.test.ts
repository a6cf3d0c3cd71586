import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import { localModels } from '@lorasmith/base-models';
import {
  ChatCompletion,
  ChatCompletionChunk,
  Completion,
  type GenerationChunk,
  type GenerationRequest,
  type KeyId,
  OpenaiErrorBody,
  OpenaiModelList,
} from '@lorasmith/contracts';
import {
  createGenerationClient,
  createGenerationServer,
  type GenerationClient,
  type GenerationServer,
} from '@lorasmith/queue';
import { Redis } from 'ioredis';
import OpenAI, { APIError } from 'openai';
import type { TSchema } from 'typebox';
import { Value } from 'typebox/value';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { writeTinyClassifier } from '../../../packages/training/test/tiny-classifier.js';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { adapterId, addBaseModel, publishReferenceAdapter } from '../../registry/test/published-adapter.js';
import { createAccess, OPEN_ACCESS } from '../src/access/access.js';
import { KeyStore } from '../src/access/key-store.js';
import { type RealApi, startRealApi } from './real-api.js';
import { startRegistry } from './registry-process.js';

// The api with keys, a real registry and OpenAI's own client. This file is the worker: it takes the requests from Redis.

const MODEL = 'llama-tied';
const [OWN, OTHERS] = [adapterId(1), adapterId(2)];
/** The name of its adapter as a fine-tuned model. */
const OWN_NAME = `ft:${MODEL}:lorasmith:a-name:${OWN}`;

let server: RealRedis;
let redis: Redis;
let folder: RealApi;
let api: RealApi;
let registry: ChildProcess;
let url: string;
let token: string;
let readToken: string;
let owner: KeyId;
let worker: GenerationServer;
let client: OpenAI;

beforeAll(async () => {
  server = await startRealRedis();
  const { prefix } = server;
  redis = new Redis(server.url, { maxRetriesPerRequest: null });
  const keys = new KeyStore({ redis, prefix });
  const [own, other] = [
    await keys.create({ name: 'own', role: 'train' }),
    await keys.create({ name: 'other', role: 'train' }),
  ];
  token = own.token;
  owner = own.key.id;
  readToken = (await keys.create({ name: 'read', role: 'read', owner })).token;
  folder = await startRealApi({ redisUrl: server.url, prefix });
  await addBaseModel(`${folder.folder}/models`, MODEL);
  await mkdir(`${folder.folder}/models/classifier`);
  await writeTinyClassifier(`${folder.folder}/models/classifier`);
  for (const [id, key] of [
    [OWN, owner],
    [OTHERS, other.key.id],
  ] as const) {
    await publishReferenceAdapter(folder.adapters, {
      id,
      name: MODEL,
      createdAt: '2026-01-02T03:04:05.000Z',
      change(manifest) {
        manifest.owner = key;
      },
    });
  }
  const started = await startRegistry(folder.folder);
  registry = started.process;
  const limits = { ...OPEN_ACCESS.limits, generationRequests: 2 };
  api = await startRealApi({
    redisUrl: server.url,
    prefix,
    changes: {
      access: createAccess({ redis, prefix, keys, withoutKeys: 'refuse', limits, uploadTimeoutMs: 60_000 }),
      registry: started.address,
      adapters: folder.adapters,
      baseModels: localModels(`${folder.folder}/models`),
      generationLimits: { maxTokens: 100, waitMs: 10_000, queueMs: 60_000 },
      downloadStallMs: 500,
    },
  });
  url = await api.app.listen({ host: '127.0.0.1', port: 0 });
  client = new OpenAI({ baseURL: `${url}/v1`, apiKey: token, maxRetries: 0 });
});
afterAll(async () => {
  registry?.kill('SIGKILL');
  await api?.stop();
  await folder?.stop();
  await redis?.quit();
  await server?.stop();
});
beforeEach(() => {
  worker = createGenerationServer({ redis, prefix: server.prefix, workerName: 'this-file' });
});
afterEach(async () => {
  worker.close();
  // Nothing of a request stays, however it ended.
  await expect.poll(() => redis.keys(`${server.prefix}generation:*`), { interval: 5 }).toEqual([]);
});

async function claimed() {
  for (;;) {
    const notice = worker.listen();
    await notice.ready;
    const one = await worker.claim(MODEL);
    if (one === null) await notice.wait(1_000);
    notice.close();
    if (one !== null) return one;
  }
}

/** The client adds the request id to answers. */
const faultsOf = (schema: TSchema, answer: unknown) => {
  const { _request_id: _, ...rest } = answer as Record<string, unknown>;
  return [...Value.Errors(schema, rest)];
};

/** Answers the next request with these pieces. */
async function answering(...pieces: GenerationChunk[]): Promise<GenerationRequest> {
  const { request, answer } = await claimed();
  for (const piece of pieces) answer.write(piece);
  await answer.done;
  return request;
}

const token1 = {
  text: 'Hi',
  bytes: [72, 105],
  logprob: -0.5,
  offset: 0,
  top: [{ text: 'Ho', bytes: [72, 111], logprob: -1 }],
};
const token2 = { text: '!', bytes: [33], logprob: -0.25, offset: 2, top: [] };
const said = (choice = 0): GenerationChunk[] => [
  { type: 'text', choice, text: 'Hi', tokens: [token1] },
  { type: 'text', choice, text: '!', tokens: [token2] },
  { type: 'finish', choice, reason: 'stop' },
];
const END: GenerationChunk = { type: 'end', prompt_tokens: 3, completion_tokens: 2 };
const CHAT = { model: OWN, messages: [{ role: 'user' as const, content: 'Hello' }] };

const TOOL = { type: 'function' as const, function: { name: 'look', parameters: { type: 'object' } } };
const called = (id: string, values: string) => ({
  id,
  type: 'function' as const,
  function: { name: 'look', arguments: values },
});

async function post(path: string, body: unknown, headers: Record<string, string> = {}) {
  const answer = await fetch(`${url}/v1${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
  return { status: answer.status, headers: answer.headers, json: (await answer.json()) as OpenaiErrorBody };
}

describe('a chat', () => {
  test('is answered by an adapter, with the defaults of the OpenAI API', async () => {
    const asked = client.chat.completions.create(CHAT);
    const request = await answering(...said(), END);
    expect(request).toEqual({
      base_model: MODEL,
      adapter: OWN,
      input: { kind: 'chat', messages: CHAT.messages, tools: null, must_call: null, one_call: false },
      schema: null,
      n: 1,
      max_tokens: 100,
      temperature: 1,
      top_p: 1,
      top_k: 0,
      min_p: 0,
      presence_penalty: 0,
      frequency_penalty: 0,
      repetition_penalty: 1,
      seed: expect.any(Number),
      stop: [],
      logprobs: null,
    });
    const answer = await asked;
    expect(faultsOf(ChatCompletion, answer)).toEqual([]);
    expect(answer).toMatchObject({
      object: 'chat.completion',
      model: OWN,
      choices: [{ message: { role: 'assistant', content: 'Hi!' }, logprobs: null, finish_reason: 'stop' }],
      usage: { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 },
    });
  });

  test('says in which precision its text was computed, in a stream with every chunk', async () => {
    const start: GenerationChunk = { type: 'start', precision: 'bfloat16' };
    const asked = client.chat.completions.create(CHAT);
    await answering(start, ...said(), END);
    expect(await asked).toMatchObject({ system_fingerprint: 'fp_bfloat16' });
    const streaming = client.chat.completions.create({ ...CHAT, stream: true });
    await answering(start, ...said(), END);
    const fingerprints = new Set<string | undefined>();
    for await (const chunk of await streaming) fingerprints.add(chunk.system_fingerprint);
    expect([...fingerprints]).toEqual(['fp_bfloat16']);
  });

  test('is answered by an adapter under its name as a fine-tuned model', async () => {
    const asked = client.chat.completions.create({ ...CHAT, model: OWN_NAME });
    expect(await answering(...said(), END)).toMatchObject({ base_model: MODEL, adapter: OWN });
    expect(await asked).toMatchObject({ model: OWN_NAME });
  });

  test('takes every setting, and returns several answers with their log-probabilities', async () => {
    const asked = client.chat.completions.create({
      model: MODEL,
      messages: [
        {
          role: 'developer',
          content: [
            { type: 'text', text: 'Be ' },
            { type: 'text', text: 'short.' },
          ],
        },
        { role: 'user', content: 'Hello' },
      ],
      n: 2,
      max_completion_tokens: 7,
      temperature: 0,
      top_p: 0.5,
      seed: 42,
      stop: ['a', 'b'],
      logprobs: true,
      top_logprobs: 1,
      presence_penalty: 0.5,
      frequency_penalty: -2,
      logit_bias: {},
      response_format: { type: 'text' },
    });
    const request = await answering(...said(1), ...said(0), END);
    expect(request).toMatchObject({
      base_model: MODEL,
      adapter: null,
      input: {
        messages: [
          {
            role: 'developer',
            content: [
              { type: 'text', text: 'Be ' },
              { type: 'text', text: 'short.' },
            ],
          },
          { role: 'user', content: 'Hello' },
        ],
      },
      ...{ n: 2, max_tokens: 7, temperature: 0, top_p: 0.5, seed: 42, stop: ['a', 'b'], logprobs: 1 },
      ...{ top_k: 0, min_p: 0, presence_penalty: 0.5, frequency_penalty: -2, repetition_penalty: 1 },
    });
    const answer = await asked;
    expect(faultsOf(ChatCompletion, answer)).toEqual([]);
    expect(answer.choices.map(({ index, message }) => [index, message.content])).toEqual([
      [0, 'Hi!'],
      [1, 'Hi!'],
    ]);
    expect(answer.choices[0]?.logprobs?.content).toEqual([
      { token: 'Hi', logprob: -0.5, bytes: [72, 105], top_logprobs: [{ token: 'Ho', logprob: -1, bytes: [72, 111] }] },
      { token: '!', logprob: -0.25, bytes: [33], top_logprobs: [] },
    ]);
  });

  test('takes fields about storing, routing and accounting, and those of vLLM', async () => {
    const fields = {
      store: true,
      metadata: { who: 'me' },
      service_tier: 'auto',
      safety_identifier: 'somebody',
      prompt_cache_key: 'a key',
      user: 'somebody',
      modalities: ['text'],
    };
    const asked = post('/chat/completions', { ...CHAT, ...fields, top_k: -1, min_p: 0.05, repetition_penalty: 1.25 });
    const request = await answering(...said(), END);
    expect(request).toMatchObject({ top_k: 0, min_p: 0.05, repetition_penalty: 1.25 });
    for (const field of Object.keys(fields)) expect(request).not.toHaveProperty(field);
    expect((await asked).status).toBe(200);
    const completed = post('/completions', { model: OWN, prompt: 'a', top_k: 5, frequency_penalty: 1 });
    expect(await answering(...said(), END)).toMatchObject({ top_k: 5, frequency_penalty: 1 });
    expect((await completed).status).toBe(200);
  });

  test('sends tools, calls and their answers to the worker, and none with tool_choice none', async () => {
    const messages = [
      ...CHAT.messages,
      { role: 'assistant' as const, content: null, tool_calls: [called('a', '{"place": "Oslo"}')] },
      { role: 'tool' as const, tool_call_id: 'a', content: 'snow' },
    ];
    const asked = client.chat.completions.create({ model: OWN, messages, tools: [TOOL], tool_choice: 'auto' });
    const request = await answering(...said(), END);
    expect(request.input).toEqual({ kind: 'chat', messages, tools: [TOOL], must_call: null, one_call: false });
    expect((await asked).choices[0]?.message.content).toBe('Hi!');
    const without = client.chat.completions.create({ model: OWN, messages, tools: [TOOL], tool_choice: 'none' });
    expect((await answering(...said(), END)).input).toMatchObject({ tools: null });
    await without;
  });

  test('sends the reasoning of earlier answers to the worker', async () => {
    const thought = { role: 'assistant' as const, content: 'Yes.', reasoning_content: 'Hm.' };
    const messages = [...CHAT.messages, thought, ...CHAT.messages];
    const asked = client.chat.completions.create({ model: OWN, messages });
    expect((await answering(...said(), END)).input).toMatchObject({ kind: 'chat', messages });
    await asked;
  });

  test('has a format, whose schema goes to the worker', async () => {
    const schema = {
      type: 'object',
      properties: { a: { type: 'integer' } },
      required: ['a'],
      additionalProperties: false,
    };
    const formats = [
      [{ type: 'json_object' as const }, { type: 'object' }],
      [{ type: 'json_schema' as const, json_schema: { name: 'x', schema, strict: true } }, schema],
      [{ type: 'text' as const }, null],
    ] as const;
    for (const [response_format, expected] of formats) {
      const asked = client.chat.completions.create({ ...CHAT, response_format });
      expect((await answering(...said(), END)).schema).toEqual(expected);
      await asked;
    }
  });

  test('has calls of tools, whole and streamed', async () => {
    const pieces: GenerationChunk[] = [
      { type: 'text', choice: 0, text: 'Well.', tokens: [] },
      { type: 'call', choice: 0, name: 'f', arguments: '{"a":1}' },
      { type: 'call', choice: 0, name: 'f', arguments: '{}' },
      { type: 'call', choice: 1, name: 'f', arguments: '{}' },
      { type: 'finish', choice: 1, reason: 'length' },
      { type: 'finish', choice: 0, reason: 'stop' },
    ];
    const request = { ...CHAT, tools: [TOOL], n: 2 };
    const asked = client.chat.completions.create({ ...request, parallel_tool_calls: false });
    expect((await answering(...pieces, END)).input).toMatchObject({ must_call: null, one_call: true });
    const answer = await asked;
    expect(faultsOf(ChatCompletion, answer)).toEqual([]);
    const called = (values: string) => ({
      id: expect.stringMatching(/^call_[0-9a-f]{24}$/),
      type: 'function',
      function: { name: 'f', arguments: values },
    });
    expect(
      answer.choices.map(({ message, finish_reason }) => [message.content, message.tool_calls, finish_reason]),
    ).toEqual([
      ['Well.', [called('{"a":1}'), called('{}')], 'tool_calls'],
      [null, [called('{}')], 'length'],
    ]);

    const streamed = client.chat.completions.stream({ ...request, stream: true });
    const answered = answering(...pieces, END);
    for await (const chunk of streamed) expect(faultsOf(ChatCompletionChunk, chunk)).toEqual([]);
    await answered;
    const { choices } = await streamed.finalChatCompletion();
    expect(choices[0]!.message.tool_calls).toMatchObject([called('{"a":1}'), called('{}')]);
    expect(choices[0]!.finish_reason).toBe('tool_calls');
  });

  test('must call a tool: any, or the one that is named', async () => {
    const tools = ['f', 'g'].map((name) => ({ ...TOOL, function: { ...TOOL.function, name } }));
    const choices = [
      ['required', ['f', 'g']],
      [{ type: 'function', function: { name: 'g' } }, ['g']],
    ] as const;
    for (const [tool_choice, names] of choices) {
      const asked = client.chat.completions.create({ ...CHAT, tools, tool_choice });
      const { input } = await answering(
        { type: 'call', choice: 0, name: 'g', arguments: '{}' },
        ...said(0).slice(-1),
        END,
      );
      expect(input).toMatchObject({ tools, must_call: names, one_call: true });
      expect((await asked).choices[0]!.message.tool_calls).toHaveLength(1);
    }
  });

  test('may call some tools alone, or must call one of them', async () => {
    const tools = ['f', 'g', 'h'].map((name) => ({ ...TOOL, function: { ...TOOL.function, name } }));
    const named = ['h', 'f'].map((name) => ({ type: 'function', function: { name } }));
    for (const [mode, must_call] of [
      ['auto', null],
      ['required', ['h', 'f']],
    ] as const) {
      const tool_choice = { type: 'allowed_tools', allowed_tools: { mode, tools: named } } as const;
      const asked = client.chat.completions.create({ ...CHAT, tools, tool_choice });
      const { input } = await answering(
        { type: 'call', choice: 0, name: 'h', arguments: '{}' },
        ...said(0).slice(-1),
        END,
      );
      expect(input).toMatchObject({ tools: [tools[0], tools[2]], must_call, one_call: mode === 'required' });
      expect((await asked).choices[0]!.message.tool_calls).toHaveLength(1);
    }
  });

  test('is streamed, with the counts in a last piece', async () => {
    const asked = client.chat.completions.create({ ...CHAT, stream: true, stream_options: { include_usage: true } });
    const answered = answering(...said(), END);
    const chunks = [];
    for await (const chunk of await asked) chunks.push(chunk);
    await answered;
    for (const chunk of chunks) expect(faultsOf(ChatCompletionChunk, chunk)).toEqual([]);
    expect(chunks.map(({ choices }) => choices[0]?.delta)).toEqual([
      { role: 'assistant', content: '' },
      { content: 'Hi' },
      { content: '!' },
      {},
      undefined,
    ]);
    expect(chunks.at(-2)?.choices[0]?.finish_reason).toBe('stop');
    expect(chunks.map(({ usage }) => usage?.total_tokens)).toEqual([undefined, undefined, undefined, undefined, 5]);
  });

  test('a chat that fails keeps its status before the first piece, and is an event after it', async () => {
    const failure = { code: 'context_length_exceeded' as const, message: 'Too long.', param: 'messages' };
    const asked = client.chat.completions.create({ ...CHAT, stream: true }).catch((error: unknown) => error);
    await answering({ type: 'failed', failure });
    expect(await asked).toMatchObject({ status: 400, code: 'context_length_exceeded', param: 'messages' });

    const streamed = client.chat.completions.create({ ...CHAT, stream: true });
    const answered = answering(said()[0]!, {
      type: 'failed',
      failure: { code: 'trainer_crashed', message: 'It died.' },
    });
    const texts: string[] = [];
    const reading = (async () => {
      for await (const chunk of await streamed) texts.push(chunk.choices[0]?.delta.content ?? '');
    })();
    await expect(reading).rejects.toThrow('It died.');
    await answered;
    expect(texts).toEqual(['', 'Hi']);
  });

  test('ends when its caller leaves, streamed or not', async () => {
    for (const stream of [true, false]) {
      const leaving = new AbortController();
      const asked = client.chat.completions.create({ ...CHAT, stream }, { signal: leaving.signal });
      asked.catch(() => {});
      const { answer } = await claimed();
      answer.write(said()[0]!);
      if (stream) await asked;
      leaving.abort();
      await expect.poll(() => redis.keys(`${server.prefix}generation:request:*`), { interval: 5 }).toEqual([]);
      answer.write(said()[1]!);
      await answer.done;
      expect(answer.signal.aborted).toBe(true);
    }
  });

  test('ends when its caller leaves as the first piece comes', async () => {
    const real = createGenerationClient({ redis, prefix: server.prefix });
    const leaving = new AbortController();
    const generation: GenerationClient = {
      ...real,
      async *ask(request, options) {
        for await (const piece of real.ask(request, options)) {
          leaving.abort();
          if (!options.signal.aborted) await once(options.signal, 'abort');
          yield piece;
        }
      },
    };
    const baseModels = localModels(`${folder.folder}/models`);
    const changes = { generation, adapters: folder.adapters, baseModels };
    const other = await startRealApi({ redisUrl: server.url, prefix: server.prefix, changes });
    onTestFinished(async () => {
      real.close();
      await other.stop();
    });
    const address = await other.app.listen({ host: '127.0.0.1', port: 0 });
    const caller = new OpenAI({ baseURL: `${address}/v1`, apiKey: 'none', maxRetries: 0 });
    const asked = caller.chat.completions.create({ ...CHAT, stream: true }, { signal: leaving.signal });
    asked.catch(() => {});
    // Resolves once the api says that nobody wants more.
    await answering(said()[0]!);
  });

  test('a chat whose client reads nothing is ended', async () => {
    const sent = httpRequest(`${url}/v1/chat/completions`, {
      method: 'POST',
      agent: false,
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    });
    sent.on('error', () => {});
    sent.end(JSON.stringify({ ...CHAT, stream: true }));
    const { answer } = await claimed();
    answer.write(said()[0]!);
    const [response] = await once(sent, 'response');
    response.on('error', () => {});
    for (let i = 0; i < 150; i++) answer.write({ type: 'text', choice: 0, text: 'x'.repeat(100_000), tokens: [] });
    await answer.done;
    expect(answer.signal.aborted).toBe(true);
    response.destroy();
  });
});

test('an answer with more log-probabilities than the api collects is refused, and its worker stops', async () => {
  const asked = client.chat.completions.create({ ...CHAT, logprobs: true }).catch((error: unknown) => error);
  const { answer } = await claimed();
  const top = Array(64_000).fill({ text: '', bytes: null, logprob: 0 });
  for (let i = 0; i < 8; i++) {
    answer.write({ type: 'text', choice: 0, text: 'Hi', tokens: [{ ...token1, top }] });
    await expect.poll(() => redis.keys(`${server.prefix}generation:pieces:*`)).toEqual([]);
  }
  expect(await asked).toMatchObject({ status: 400, code: 'invalid_request', param: 'logprobs' });
  await answer.done;
  expect(answer.signal.aborted).toBe(true);
});

test('an answer that is complete, and whose client does not read it, gives its place to the next one', async () => {
  // As many as the key may have in progress.
  for (let i = 0; i < 2; i++) {
    const sent = httpRequest(`${url}/v1/chat/completions`, {
      method: 'POST',
      agent: false,
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    });
    sent.on('error', () => {});
    sent.on('response', (response) => response.on('error', () => {}));
    onTestFinished(() => void sent.destroy());
    sent.end(JSON.stringify(CHAT));
    const long = Array<GenerationChunk>(150).fill({ type: 'text', choice: 0, text: 'x'.repeat(100_000), tokens: [] });
    await answering(...long, ...said(), END);
  }
  const asked = client.chat.completions.create(CHAT);
  await answering(...said(), END);
  expect((await asked).choices[0]?.message.content).toBe('Hi!');
});

describe('a completion', () => {
  test('scores a prompt of tokens', async () => {
    const asked = client.completions.create({
      model: OWN,
      prompt: [5, 6],
      max_tokens: 0,
      echo: true,
      logprobs: 1,
      temperature: 0,
    });
    const request = await answering(
      {
        type: 'text',
        choice: 0,
        text: 'Hi!',
        tokens: [
          { ...token1, logprob: null, top: [] },
          { ...token2, top: [token1] },
        ],
      },
      { type: 'finish', choice: 0, reason: 'length' },
      { type: 'end', prompt_tokens: 2, completion_tokens: 0 },
    );
    expect(request).toMatchObject({
      input: { kind: 'text', prompts: [[5, 6]], echo: true },
      max_tokens: 0,
      logprobs: 1,
    });
    const answer = await asked;
    expect(faultsOf(Completion, answer)).toEqual([]);
    expect(answer.choices).toEqual([
      {
        index: 0,
        text: 'Hi!',
        logprobs: {
          tokens: ['Hi', '!'],
          token_logprobs: [null, -0.25],
          top_logprobs: [null, { Hi: -0.5, '!': -0.25 }],
          text_offset: [0, 2],
        },
        finish_reason: 'length',
      },
    ]);
  });

  test('a completion of several prompts is streamed', async () => {
    const asked = client.completions.create({ model: MODEL, prompt: ['a', 'b'], stream: true, stop: null });
    const answered = answering(...said(1), ...said(0), END);
    const chunks = [];
    for await (const chunk of await asked) chunks.push(chunk);
    expect(await answered).toMatchObject({ input: { prompts: ['a', 'b'] }, max_tokens: 16 });
    for (const chunk of chunks) expect(faultsOf(Completion, chunk)).toEqual([]);
    expect(chunks.map(({ choices: [choice] }) => [choice?.index, choice?.text, choice?.finish_reason])).toEqual([
      [1, 'Hi', null],
      [1, '!', null],
      [1, '', 'stop'],
      [0, 'Hi', null],
      [0, '!', null],
      [0, '', 'stop'],
    ]);
  });
});

test('models are the base models that generate text, and the adapters of the key', async () => {
  const answer = await client.models.list();
  expect(answer.data).toEqual([
    { id: MODEL, object: 'model', created: 0, owned_by: 'lorasmith', parent: null },
    { id: 'tiny-llama', object: 'model', created: 0, owned_by: 'lorasmith', parent: null },
    { id: OWN_NAME, object: 'model', created: 1767323045, owned_by: owner, parent: MODEL },
  ]);
  const list = await fetch(`${url}/v1/models`, { headers: { authorization: `Bearer ${readToken}` } });
  expect(faultsOf(OpenaiModelList, await list.json())).toEqual([]);
  for (const name of [OWN, OWN_NAME]) expect(await client.models.retrieve(name)).toEqual(answer.data[2]);
  expect(await client.models.retrieve(MODEL)).toEqual(answer.data[0]);
  const unknown = { status: 404, code: 'model_not_found', param: 'model' };
  // An adapter may be renamed: a name that it had before still is its name.
  expect(await client.models.retrieve(OWN_NAME.replace('a-name', 'another'))).toEqual(answer.data[2]);
  const misnamed = [OWN_NAME.replace('a-name', 'A name'), OWN_NAME.replace(OWN, OTHERS), `ft:${MODEL}`];
  for (const id of [OTHERS, adapterId(3), 'nothing', ...misnamed]) {
    await expect(client.models.retrieve(id)).rejects.toMatchObject(unknown);
  }
});

test.each([
  ['the adapter of another key', { model: OTHERS }, 404, 'model_not_found', 'There is no adapter'],
  ['an unknown base model', { model: 'nothing' }, 404, 'model_not_found', 'nothing'],
  ['a classifier', { model: 'classifier' }, 400, 'model_not_supported', 'generates no text'],
  ['an unsupported field', { verbosity: 'low' }, 400, 'unknown_field', 'The field verbosity is not supported.'],
  ['tools in their older form', { functions: [] }, 400, 'invalid_request', 'This is the older form of tools'],
  ['a choice without tools', { tool_choice: 'required' }, 400, 'invalid_request', 'tool_choice needs tools.'],
  [
    'the choice of a tool that is not there',
    { tools: [TOOL], tool_choice: { type: 'function', function: { name: 'other' } } },
    400,
    'invalid_request',
    'There is no tool "other".',
  ],
  [
    'an allowed tool that is not there',
    {
      tools: [TOOL],
      tool_choice: {
        type: 'allowed_tools',
        allowed_tools: { mode: 'auto', tools: [{ type: 'function', function: { name: 'other' } }] },
      },
    },
    400,
    'invalid_request',
    'There is no tool "other".',
  ],
  [
    'a tool that must be called with arguments that cannot be constrained',
    {
      tools: [{ type: 'function', function: { name: 'f', parameters: { type: 'object', minProperties: 1 } } }],
      tool_choice: 'required',
    },
    400,
    'invalid_request',
    'The keyword minProperties is not supported.',
  ],
  [
    'a format without its schema',
    { response_format: { type: 'json_schema' } },
    400,
    'invalid_request',
    'needs a schema',
  ],
  [
    'a schema that is not supported',
    {
      response_format: {
        type: 'json_schema',
        json_schema: { name: 'x', schema: { type: 'object', properties: { a: { type: 'string', pattern: 'x' } } } },
      },
    },
    400,
    'invalid_request',
    'The keyword pattern is not supported.',
  ],
  [
    'a format beside tools',
    { tools: [TOOL], response_format: { type: 'json_object' } },
    400,
    'invalid_request',
    'json_object with tools is not supported',
  ],
  ['a tool that is no function', { tools: [{ type: 'web_search' }] }, 400, 'invalid_request'],
  [
    'arguments that are no JSON',
    { messages: [...CHAT.messages, { role: 'assistant', tool_calls: [called('a', '{"a": ')] }] },
    400,
    'invalid_request',
    'The arguments are not a JSON object.',
  ],
  [
    'an answer to no call',
    { messages: [...CHAT.messages, { role: 'tool', tool_call_id: 'b', content: 'x' }] },
    400,
    'invalid_request',
    'No message before this one',
  ],
  ['a user without content', { messages: [{ role: 'user' }] }, 400, 'invalid_request', 'The content is missing'],
  ['a penalty above 2', { frequency_penalty: 2.1 }, 400, 'invalid_request', 'frequency_penalty must be <= 2'],
  ['a repetition penalty of 0', { repetition_penalty: 0 }, 400, 'invalid_request', 'repetition_penalty must be > 0'],
  [
    'a part that is an image',
    { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: {} }] }] },
    400,
    'invalid_request',
    'Images are not supported: only parts of text.',
  ],
  ['a thousand stop texts', { stop: Array(1_000).fill('x') }, 400, 'invalid_request', 'stop must NOT have more than 4'],
  ['an empty stop text', { stop: '' }, 400, 'invalid_request', 'stop'],
  ['too many tokens', { max_tokens: 101 }, 400, 'invalid_request', 'max_tokens must be <= 100'],
  ['alternatives without log-probabilities', { top_logprobs: 2 }, 400, 'invalid_request', 'needs logprobs'],
  [
    'a temperature of another kind',
    { temperature: '1' },
    400,
    'invalid_request',
    'temperature must be number or null.',
  ],
  ['options of a stream without one', { stream_options: {} }, 400, 'invalid_request', 'needs stream'],
])('%s is refused', async (_, change, status, code?: string, message = '') => {
  const answer = await post('/chat/completions', { ...CHAT, ...change });
  expect(faultsOf(OpenaiErrorBody, answer.json)).toEqual([]);
  expect(answer.status).toBe(status);
  if (code !== undefined) expect(answer.json.error.code).toBe(code);
  expect(answer.json.error.message).toContain(message);
});

test('the parameters of tools of which one must be called are within the limits together, and a fault has its place', async () => {
  const tool = (name: string, parameters: object) => ({ type: 'function', function: { name, parameters } });
  const many = { type: 'object', properties: { a: { anyOf: Array(1_200).fill({ type: 'null' }) } } };
  const refusalOf = async (...tools: object[]) =>
    (await post('/chat/completions', { ...CHAT, tools, tool_choice: 'required' })).json.error;
  const together = await refusalOf(tool('f', many), tool('g', many));
  expect(together).toMatchObject({
    code: 'invalid_request',
    message: expect.stringContaining('more than 2000 schemas'),
  });
  expect(together.param).toMatch(/^tools\.1\.function\.parameters\.properties\.a\.anyOf\.\d+$/);
  const wrong = {
    type: 'object',
    properties: { b: { $ref: '#/$defs/c.d' } },
    $defs: { 'c.d': { type: 'string', pattern: 'x' } },
  };
  expect(await refusalOf(TOOL, tool('g', wrong))).toMatchObject({
    param: 'tools.1.function.parameters.$defs.c.d.pattern',
    message: 'The keyword pattern is not supported.',
  });
});

test('every error under /v1 has the form of the OpenAI API', async () => {
  const errors = [
    await post('/chat/completions', '{'),
    await post('/completions', { model: MODEL, prompt: 'a', max_tokens: 0 }),
    await post('/completions', { model: MODEL, prompt: Array(9).fill('a'), n: 2 }),
    await post('/chat/completions', CHAT, { authorization: 'Bearer lsk_wrong' }),
    await post('/chat/completions', CHAT, { authorization: `Bearer ${readToken}` }),
    await post('/chat/completions', CHAT, { 'content-type': 'text/plain' }),
    await post('/responses', {}),
    await post('/models', {}),
    await post('/completions', { model: MODEL, prompt: 'a'.repeat(1_100_000) }),
  ];
  for (const { json } of errors) expect(faultsOf(OpenaiErrorBody, json)).toEqual([]);
  expect(errors.map(({ status, json }) => `${status} ${json.error.code}`)).toEqual([
    '400 invalid_json',
    '400 invalid_request',
    '400 invalid_request',
    '401 invalid_api_key',
    '403 forbidden',
    '415 unsupported_media_type',
    '404 not_found',
    '405 method_not_allowed',
    '413 body_too_large',
  ]);
});

test('without a worker the answer is 503 after the wait', async () => {
  const failed = await client.chat.completions.create(CHAT).catch((error: unknown) => error);
  expect(failed).toBeInstanceOf(APIError);
  expect(failed).toMatchObject({ status: 503, code: 'service_unavailable', type: 'server_error' });
  expect((failed as APIError).headers?.get('retry-after')).toBe('10');
});

test('40 requests at once, of a key that may have two in progress, are all answered', async () => {
  const asked = Promise.all(Array.from({ length: 40 }, () => client.chat.completions.create(CHAT)));
  for (let i = 0; i < 40; i++) await answering(...said(), END);
  for (const { choices } of await asked) expect(choices[0]?.message.content).toBe('Hi!');
});

test('where too many requests of a key wait already, the next is 429 and says when to try again', async () => {
  const leaving = new AbortController();
  const { signal } = leaving;
  const ask = () => client.chat.completions.create(CHAT, { signal }).catch((error: APIError) => error);
  const inProgress = [ask(), ask()];
  // A worker has them, and does not answer.
  for (const _ of inProgress) await claimed();
  const others = Array.from({ length: 70 }, ask);
  // 64 of them wait.
  const refused = await Promise.race(others);
  expect(refused).toMatchObject({ status: 429, code: 'rate_limit_exceeded', type: 'rate_limit_error' });
  expect(Number((refused as APIError).headers?.get('retry-after'))).toBeGreaterThan(0);
  leaving.abort();
  await Promise.all([...inProgress, ...others]);
});
