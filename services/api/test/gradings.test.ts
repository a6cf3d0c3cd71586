import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, LookupFunction } from 'node:net';
import { type GradedItem, GradingBody, type GradingOutcome } from '@lorasmith/contracts';
import { createJobStore, type JobStore } from '@lorasmith/queue';
import { createLogger } from '@lorasmith/service-kit';
import { Redis } from 'ioredis';
import { Webhook } from 'standardwebhooks';
import { Value } from 'typebox/value';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { type GradingSenderOptions, startGradingSender } from '../src/grading/grading-sender.js';
import { webhookClient } from '../src/grading/webhook-client.js';
import type { WebhookConfig } from '../src/webhooks/webhook-config.js';
import { secretOfOwner } from '../src/webhooks/webhook-delivery.js';

// A real Redis, and a grader that checks signatures with the library of Standard Webhooks.

const SECRET = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;
const OWNER = 'key_0123456789abcdef01234567';
const JOB = 'job_0123456789abcdef01234567';
const log = createLogger({ service: 'api', level: 'silent' });

let server: RealRedis;
let redis: Redis;
let store: JobStore;
let grader: Server;
let url: string;
let received: { headers: IncomingHttpHeaders; text: string; path: string | undefined }[];
/** The answers of the grader, one after the other; then the length of each completion. */
let answers: ((response: ServerResponse) => unknown)[];
let stops: (() => Promise<void>)[];

beforeAll(async () => {
  server = await startRealRedis();
  redis = new Redis(server.url, { maxRetriesPerRequest: null });
});
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});
beforeEach(async () => {
  store = createJobStore({ redis, prefix: `{gradings-${Math.random()}}:` });
  [received, answers, stops] = [[], [], []];
  grader = createServer((request, response) => {
    let text = '';
    request.on('data', (chunk) => {
      text += chunk;
    });
    request.on('end', () => {
      received.push({ headers: request.headers, text, path: request.url });
      const { items } = (JSON.parse(text) as GradingBody).data;
      const rewards = items.map(({ completion }) => completion.length);
      const answer = answers.shift() ?? ((to) => to.writeHead(200).end(JSON.stringify({ rewards })));
      answer(response);
    });
  });
  grader.listen(0, '127.0.0.1');
  await once(grader, 'listening');
  url = `http://127.0.0.1:${(grader.address() as AddressInfo).port}/grade`;
});
afterEach(async () => {
  await Promise.all(stops.map((stop) => stop()));
  grader.closeAllConnections();
  grader.close();
  await store.close();
});

/** No grading here asks a model. */
const NO_JUDGE: GradingSenderOptions['clients']['judge'] = {
  named: 'A judge',
  ask: () => expect.fail('a judge is asked'),
};

function send(config: Partial<WebhookConfig> = {}, lookup?: LookupFunction): () => Promise<void> {
  const webhook = webhookClient({ url: null, secret: SECRET, allowPrivate: true, ...config }, lookup);
  const clients = { webhook, judge: NO_JUDGE };
  const stop = startGradingSender({ gradings: store.gradings, clients, log, delaysMs: [1, 1] });
  stops.push(stop);
  return stop;
}

const itemOf = (completion: string): GradedItem => {
  return { line: 1, prompt: 'a', reference: null, completion, completion_tokens: 1, finish_reason: 'stop' };
};

function ask(completions: string[], { timeoutSeconds = 60, to = url } = {}): Promise<GradingOutcome | null> {
  const batch = { step: 1, items: completions.map((completion) => JSON.stringify(itemOf(completion))) };
  return store.gradings.ask(
    { job: JOB, owner: OWNER, grader: { kind: 'webhook', url: to, timeoutSeconds }, batch },
    new AbortController().signal,
  );
}

const answering = (status: number, body = '', headers: Record<string, string> = {}) => {
  return (response: ServerResponse) => response.writeHead(status, headers).end(body);
};

test('answers are sent signed with the secret of the key, and their rewards come back in order', async () => {
  send();
  const outcomes = await Promise.all([ask(['a', 'bbb', '']), ask(['Ä'])]);
  expect(outcomes).toEqual([
    { kind: 'graded', rewards: [1, 3, 0] },
    { kind: 'graded', rewards: [1] },
  ]);
  for (const { headers, text } of received) {
    const verified = new Webhook(secretOfOwner(SECRET, OWNER)).verify(text, headers as Record<string, string>);
    expect([...Value.Errors(GradingBody, verified)]).toEqual([]);
    expect(() => new Webhook(SECRET).verify(text, headers as Record<string, string>)).toThrow();
  }
  expect(received.map(({ path }) => path)).toEqual(['/grade', '/grade']);
  expect(new Set(received.map(({ headers }) => headers['webhook-id'])).size).toBe(2);
});

test('a failed request is repeated with the same id', async () => {
  answers = [answering(503), (response) => response.destroy()];
  send();
  expect(await ask(['abc'])).toEqual({ kind: 'graded', rewards: [3] });
  expect(received).toHaveLength(3);
  expect(new Set(received.map(({ headers }) => headers['webhook-id'])).size).toBe(1);
});

describe('the grading fails, in words for the owner of the job,', () => {
  test.each<[string, () => (response: ServerResponse) => unknown, string, number]>([
    ['after three statuses from 500 on', () => answering(500), 'failed 3 times: it answered 500.', 3],
    ['after three times of too many requests', () => answering(429), 'failed 3 times: it answered 429.', 3],
    ['at once for a status that a repetition does not change', () => answering(404), 'it answered 404.', 1],
    [
      'at once for a redirection, which is not followed',
      () => answering(307, '', { location: url.replace('/grade', '/inward') }),
      'it answered 307, and redirections are not followed.',
      1,
    ],
    ['for an answer that is no JSON', () => answering(200, '<html>secret</html>'), 'its answer is no JSON.', 1],
    ['for an empty answer', () => answering(204), 'its answer is no JSON.', 1],
    ['for null', () => answering(200, 'null'), 'its answer has no list of rewards.', 1],
    ['for another form', () => answering(200, '{"rewards": {"0": 1}}'), 'has no list of rewards.', 1],
    ['for too few rewards', () => answering(200, '{"rewards": [1]}'), 'it answered 1 rewards to 2 answers.', 1],
    ['for too many rewards', () => answering(200, '{"rewards": [1, 2, 3]}'), '3 rewards to 2 answers.', 1],
    ['for a reward that is null', () => answering(200, '{"rewards": [1, null]}'), 'its reward 2 of 2 is no', 1],
    ['for a reward that is a text', () => answering(200, '{"rewards": ["1", 2]}'), 'its reward 1 of 2 is no', 1],
    ['for NaN', () => answering(200, '{"rewards": [NaN, 2]}'), 'its answer is no JSON.', 1],
    ['for a reward beyond all numbers', () => answering(200, '{"rewards": [1e999, 2]}'), 'no finite number', 1],
    ['for an endless answer', () => answering(200, `{"rewards": [${'1,'.repeat(2e5)}`), 'more than 65536 bytes', 3],
    ['for an answer that breaks off', () => (to) => to.writeHead(200).write('{', () => to.destroy()), 'aborted', 3],
  ])('%s', async (_, answer, message, requests) => {
    answers = Array.from({ length: 3 }, () => answer());
    send();
    const outcome = await ask(['a', 'b']);
    expect(outcome).toMatchObject({ kind: 'failed', message: expect.stringContaining(message) });
    expect(outcome).not.toMatchObject({ message: expect.stringContaining('secret') });
    expect(received.map(({ path }) => path)).toEqual(Array.from({ length: requests }, () => '/grade'));
  });

  test('where nobody listens', async () => {
    grader.close();
    await once(grader, 'close');
    send();
    expect(await ask(['a'])).toMatchObject({
      message: expect.stringContaining('failed 3 times: connect ECONNREFUSED'),
    });
  });

  test('where WEBHOOK_SECRET is no longer set', async () => {
    send({ secret: null });
    expect(await ask(['a'])).toMatchObject({ message: expect.stringContaining('WEBHOOK_SECRET is not set') });
  });

  test.each([
    ['is private', (to: string) => to.replace('http:', 'https:'), 'private network'],
    ['resolves to a private one', (to: string) => to.replace('http://127.0.0.1', 'https://grader.example'), 'private'],
  ])('where the address %s, and that is not allowed', async (_, addressOf, message) => {
    send({ allowPrivate: false }, (_host, _options, callback) => callback(null, [{ address: '127.0.0.1', family: 4 }]));
    const outcome = await ask(['a'], { to: addressOf(url) });
    expect(outcome).toMatchObject({ kind: 'failed', message: expect.stringContaining(message) });
    expect(outcome).not.toMatchObject({ message: expect.stringContaining('127.0.0.1') });
    expect(received).toEqual([]);
  });
});

test('a grader that hangs is asked again after its time, and what it answers late counts nothing', async () => {
  const late: ServerResponse[] = [];
  answers = [(response) => late.push(response)];
  send();
  const outcome = ask(['ab'], { timeoutSeconds: 1 });
  await expect.poll(() => received.length).toBe(2);
  for (const response of late) response.writeHead(200).end('{"rewards": [-5]}');
  expect(await outcome).toEqual({ kind: 'graded', rewards: [2] });
});

test('an api that stops while the grader works leaves the answers to the next one', async () => {
  answers = [() => {}];
  const stop = send();
  const outcome = ask(['abcd'], { timeoutSeconds: 1 });
  await expect.poll(() => received.length).toBe(1);
  await stop();
  send();
  // It is due again when the claim of the first one has run out.
  const [due] = await redis.keys('*gradings:due');
  const [id] = await redis.zrange(due!, '0', '0');
  await redis.zadd(due!, 0, id!);
  expect(await outcome).toEqual({ kind: 'graded', rewards: [4] });
  expect(received[1]!.headers['webhook-id']).toBe(received[0]!.headers['webhook-id']);
});

test('of several apis one asks, and many gradings of many jobs are under way at once', async () => {
  const held: (() => void)[] = [];
  answers = Array.from({ length: 40 }, () => (response: ServerResponse) => {
    held.push(() => response.writeHead(200).end('{"rewards": [1]}'));
  });
  for (let i = 0; i < 3; i++) send();
  const outcomes = Array.from({ length: 40 }, (_, i) => ask([String(i)]));
  await expect.poll(() => received.length).toBe(40);
  for (const answer of held) answer();
  expect(await Promise.all(outcomes)).toEqual(Array.from({ length: 40 }, () => ({ kind: 'graded', rewards: [1] })));
  expect(received).toHaveLength(40);
});
