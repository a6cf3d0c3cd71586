import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { askedGraderOf, type Grader, type GradingOutcome, type JobRequest, ProductError } from '@lorasmith/contracts';
import { createGenerationClient, createGenerationServer, createJobStore, type JobStore } from '@lorasmith/queue';
import { createLogger, EVERYTHING } from '@lorasmith/service-kit';
import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { startGradingSender } from '../src/grading/grading-sender.js';
import { Judges } from '../src/grading/judges.js';
import { JudgeClient, type JudgeClientOptions, type JudgeConfig } from '../src/judging/judge-client.js';

// A real Redis, a server with the chat call of the OpenAI API, and the worker's side of this service's own models.

const KEY = 'sk-secret-of-the-operator';
const JOB = 'job_0123456789abcdef01234567';
const OWNER = 'key_0123456789abcdef01234567';
const logged: string[] = [];
const log = createLogger({
  service: 'api',
  level: 'info',
  destination: { write: (line: string) => logged.push(line) },
});

interface ChatBody {
  model: string;
  messages: { role: string; content: string }[];
  temperature?: number;
}

let server: RealRedis;
let redis: Redis;
let store: JobStore;
let prefix: string;
let openai: Server;
let url: string;
let received: { headers: IncomingHttpHeaders; body: ChatBody; path: string | undefined }[];
/** The answers of the server, one after the other; then the number of characters of the message. */
let answers: ((response: ServerResponse) => unknown)[];
let stops: (() => unknown)[];

const chat = (content: unknown, more: object = {}) =>
  JSON.stringify({ object: 'chat.completion', choices: [{ index: 0, message: { content } }], ...more });
const answering = (status: number, body: string, headers: Record<string, string> = {}) => {
  return (response: ServerResponse) => response.writeHead(status, headers).end(body);
};
const saying = (content: unknown) => answering(200, chat(content, { usage: { total_tokens: 7 } }));

beforeAll(async () => {
  server = await startRealRedis();
  redis = new Redis(server.url, { maxRetriesPerRequest: null });
});
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});
beforeEach(async () => {
  prefix = `{judges-${Math.random()}}:`;
  store = createJobStore({ redis, prefix });
  [received, answers, stops] = [[], [], []];
  openai = createServer((request, response) => {
    let text = '';
    request.on('data', (chunk) => {
      text += chunk;
    });
    request.on('end', () => {
      const body: ChatBody = JSON.parse(text);
      received.push({ headers: request.headers, body, path: request.url });
      const answer = answers.shift() ?? saying(`Score: ${body.messages[0]!.content.length / 10}`);
      answer(response);
    });
  });
  openai.listen(0, '127.0.0.1');
  await once(openai, 'listening');
  url = `http://127.0.0.1:${(openai.address() as AddressInfo).port}/v1`;
});
afterEach(async () => {
  await Promise.all(stops.map((stop) => stop()));
  openai.closeAllConnections();
  openai.close();
  await store.close();
});

const graderOf = (changes: Partial<Grader> = {}): Grader => ({
  ...{ type: 'score_model', model: 'judge-1', input: '{{sample.output_text}}', url },
  ...changes,
});

/** Judges that may ask the server, and know one model of their own. */
function judgesOf(config: Partial<JudgeConfig> = {}): Judges {
  const generation = createGenerationClient({ redis, prefix });
  stops.push(() => generation.close());
  const models: JudgeClientOptions['models'] = {
    async resolve(name) {
      if (name !== 'own') throw new ProductError('model_not_found', `There is no model ${name}.`, { param: 'model' });
      return { base_model: 'own', adapter: null };
    },
  };
  return new Judges(
    new JudgeClient({
      config: { servers: [url], apiKey: KEY, ...config },
      models,
      generation,
      limits: { maxTokens: 100 },
    }),
  );
}

/** No grading here asks a webhook. */
const NO_WEBHOOK = { named: 'A webhook', ask: () => expect.fail('a webhook is asked') };

function send(judges = judgesOf()): () => Promise<void> {
  const clients = { webhook: NO_WEBHOOK, judge: judges };
  const stop = startGradingSender({ gradings: store.gradings, clients, log, delaysMs: [1, 1] });
  stops.push(stop);
  return stop;
}

async function ask(messages: string[], changes: Partial<Grader> = {}): Promise<GradingOutcome | null> {
  const grader = askedGraderOf(graderOf(changes));
  if (grader === null) expect.fail('nobody is asked');
  const items = messages.map((message, index) => JSON.stringify({ line: index + 1, message }));
  const asked = { job: JOB, owner: OWNER, grader, batch: { step: 1, items } };
  return await store.gradings.ask(asked, new AbortController().signal);
}

test('a server scores answers, each in a request of its own with the key of the operator', async () => {
  send();
  expect(await ask(['aaaa', 'aaaaaaaa', 'a'])).toEqual({ kind: 'graded', rewards: [0.4, 0.8, 0.1], judgeTokens: 21 });
  expect(received.map(({ path }) => path)).toEqual(Array(3).fill('/v1/chat/completions'));
  for (const { headers, body } of received) {
    expect(headers.authorization).toBe(`Bearer ${KEY}`);
    expect(body).toMatchObject({ model: 'judge-1', messages: [{ role: 'user' }], temperature: 0 });
  }
});

test('an answer that was scored is not asked for again, although another of its request failed', async () => {
  answers = [saying(1), saying('1'), answering(503, '')];
  answers[0] = saying('1');
  send();
  expect(await ask(['a', 'b', 'c'])).toEqual({ kind: 'graded', rewards: [1, 1, 0.1], judgeTokens: 7 });
  expect(received).toHaveLength(4);
});

test('a model that takes no temperature is asked without one', async () => {
  answers = [answering(400, '{"error":{"message":"temperature does not support 0","param":"temperature"}}')];
  send();
  expect(await ask(['aa'])).toMatchObject({ rewards: [0.2] });
  expect(await ask(['aaa'])).toMatchObject({ rewards: [0.3] });
  expect(received.map(({ body }) => body.temperature)).toEqual([0, undefined, undefined]);
});

test('a server that is busy is asked again when it wants', async () => {
  const postponed: number[] = [];
  const { gradings } = store;
  const noting = Object.assign(Object.create(gradings), {
    async postpone(id: string, delayMs: number) {
      postponed.push(delayMs);
      await gradings.postpone(id, 1);
    },
  });
  answers = [answering(429, '', { 'retry-after': '20' }), answering(429, '', { 'retry-after': '86400' })];
  stops.push(
    startGradingSender({
      gradings: noting,
      clients: { webhook: NO_WEBHOOK, judge: judgesOf() },
      log,
      delaysMs: [1, 1],
    }),
  );
  expect(await ask(['aa'])).toMatchObject({ rewards: [0.2] });
  expect(postponed).toEqual([20_000, 60_000]);
});

describe('the grading fails, in words for the owner of the job,', () => {
  test.each<[string, () => (response: ServerResponse) => unknown, string, number]>([
    ['for prose, after three times', () => saying('I think it is good.'), 'line 1 it said "I think it is good."', 3],
    ['for a score beyond the range', () => saying('8'), 'no score from 0 to 1', 3],
    ['for a refusal', () => saying(null), 'it said ""', 3],
    ['for a key that is wrong, at once', () => answering(401, KEY), 'JUDGE_API_KEY', 1],
    ['for a model that is not there', () => answering(404, ''), 'no model judge-1', 1],
    ['after three errors of the server', () => answering(500, ''), 'failed 3 times: it answered 500.', 3],
    ['after three times of too many requests', () => answering(429, ''), 'it answered 429.', 3],
    ['for another form', () => answering(200, '{"rewards": [1]}'), 'not of the form of the OpenAI API', 1],
    ['for no JSON', () => answering(200, '<html>'), 'not of the form of the OpenAI API', 1],
    ['for an endless answer', () => answering(200, 'a'.repeat(300_000)), 'more than 262144 bytes', 3],
    ['for a redirection', () => answering(307, '', { location: 'http://169.254.169.254/' }), 'could not be asked', 3],
    ['for an answer that breaks off', () => (to) => to.writeHead(200).write('{', () => to.destroy()), 'be asked', 3],
  ])('%s', async (_, answer, message, requests) => {
    answers = Array.from({ length: 3 }, () => answer());
    send();
    const outcome = await ask(['a']);
    expect(outcome).toMatchObject({ kind: 'failed', message: expect.stringContaining(message) });
    expect(JSON.stringify(outcome)).not.toContain(KEY);
    expect(received).toHaveLength(requests);
  });

  test('where it hangs', async () => {
    answers = Array.from({ length: 3 }, () => () => {});
    send();
    const outcome = await ask(['a'], { timeout_seconds: 1 });
    expect(outcome).toMatchObject({ message: expect.stringContaining('no answer within 1 s') });
  });

  test('where its address is no longer allowed', async () => {
    send(judgesOf({ servers: [] }));
    expect(await ask(['a'])).toMatchObject({ message: expect.stringContaining('no longer among JUDGE_SERVERS') });
    expect(received).toEqual([]);
  });
});

describe('a model of this service', () => {
  test('scores answers through a worker, greedily', async () => {
    const worker = createGenerationServer({ redis, prefix, workerName: 'this-file' });
    stops.push(() => worker.close());
    send();
    const outcome = ask(['Is it good?'], { url: undefined as never, model: 'own' });
    const { request, answer } = await claimed(worker);
    expect(request).toMatchObject({ base_model: 'own', adapter: null, temperature: 0, max_tokens: 100 });
    expect(request.input).toMatchObject({ kind: 'chat', messages: [{ role: 'user', content: 'Is it good?' }] });
    answer.write({ type: 'start', precision: 'float32' });
    answer.write({ type: 'text', choice: 0, text: 'Yes: 0.', tokens: [] });
    answer.write({ type: 'text', choice: 0, text: '75', tokens: [] });
    answer.write({ type: 'end', prompt_tokens: 5, completion_tokens: 4 });
    await answer.done;
    expect(await outcome).toEqual({ kind: 'graded', rewards: [0.75], judgeTokens: 9 });
    expect(received).toEqual([]);
  });

  test('that is not there any more fails the grading', async () => {
    send();
    const outcome = await ask(['a'], { url: undefined as never, model: 'gone' });
    expect(outcome).toMatchObject({ message: expect.stringContaining('There is no model gone') });
  });
});

async function claimed(worker: ReturnType<typeof createGenerationServer>) {
  for (;;) {
    const notice = worker.listen();
    await notice.ready;
    const one = await worker.claim('own');
    if (one === null) await notice.wait(1_000);
    notice.close();
    if (one !== null) return one;
  }
}

describe('a job is checked before it is queued:', () => {
  const check = (changes: Partial<Grader>, config: Partial<JudgeConfig> = {}) => {
    const objective = { kind: 'group-relative', grader: graderOf(changes) } as NonNullable<JobRequest['objective']>;
    return judgesOf(config).check({ objective }, EVERYTHING);
  };

  test('an allowed server, a slash more at its end, and an own model are taken', async () => {
    await check({});
    await check({ url: `${url}/` });
    await check({ url: undefined as never, model: 'own' });
    await judgesOf().check({ objective: { kind: 'preference' } }, EVERYTHING);
  });

  test.each<[string, Partial<Grader>, Partial<JudgeConfig>, string, string]>([
    ['a server of nobody', { url: 'https://elsewhere.example/v1' }, {}, 'objective.grader.url', 'JUDGE_SERVERS'],
    ['any server where none is allowed', {}, { servers: [] }, 'objective.grader.url', 'which has none'],
    ['another path of an allowed host', { url: 'http://127.0.0.1/admin' }, {}, 'objective.grader.url', 'asks no model'],
    ['a model that is not there', { url: undefined as never }, {}, 'objective.grader.model', 'no model judge-1'],
  ])('%s is refused', async (_, changes, config, param, message) => {
    await expect(check(changes, config)).rejects.toMatchObject({
      ...{ code: 'invalid_job', param },
      message: expect.stringContaining(message),
    });
  });
});

test('the key is in no line of the log, and nowhere in Redis', async () => {
  answers = [answering(401, KEY)];
  send();
  await ask(['a']);
  expect(logged.join('')).toContain('answers not graded');
  expect(logged.join('')).not.toContain(KEY);
  for (const key of await redis.keys(`${prefix}*`)) {
    const type = await redis.type(key);
    const value = type === 'string' ? await redis.get(key) : type === 'hash' ? await redis.hgetall(key) : null;
    expect(JSON.stringify(value)).not.toContain(KEY);
  }
});
