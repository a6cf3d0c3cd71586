import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type JobSpec, WebhookBody } from '@lorasmith/contracts';
import { createJobStore, type JobStore } from '@lorasmith/queue';
import { createLogger } from '@lorasmith/service-kit';
import { Redis } from 'ioredis';
import { Webhook } from 'standardwebhooks';
import { Value } from 'typebox/value';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { aJobSpec } from '../../../packages/queue/test/a-job-spec.js';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { secretOfOwner } from '../src/webhooks/webhook-delivery.js';
import { startWebhookSender, type WebhookSenderOptions } from '../src/webhooks/webhook-sender.js';

// A real Redis, the real scripts that end jobs, and a receiver that checks signatures with the library of Standard Webhooks.

const SECRET = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;
const log = createLogger({ service: 'api', level: 'silent' });

let server: RealRedis;
let redis: Redis;
let store: JobStore;
let receiver: Server;
let url: string;
let received: { headers: IncomingHttpHeaders; text: string; path: string | undefined }[];
/** The statuses with which the receiver answers, one after the other; null: not at all. */
let statuses: (number | null)[];
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
  store = createJobStore({ redis, prefix: `{webhooks-${Math.random()}}:` });
  [received, statuses, stops] = [[], [], []];
  receiver = createServer((request, response) => {
    let text = '';
    request.on('data', (chunk) => {
      text += chunk;
    });
    request.on('end', () => {
      received.push({ headers: request.headers, text, path: request.url });
      const status = statuses.length > 0 ? statuses.shift()! : 200;
      if (status !== null) response.writeHead(status).end();
    });
  });
  receiver.listen(0, '127.0.0.1');
  await once(receiver, 'listening');
  url = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}`;
});
afterEach(async () => {
  await Promise.all(stops.map((stop) => stop()));
  receiver.closeAllConnections();
  receiver.close();
  await store.close();
});

function send(changes: Partial<WebhookSenderOptions> = {}, config: Partial<WebhookSenderOptions['config']> = {}) {
  const stop = startWebhookSender({
    outbox: store.webhooks,
    config: { url: null, secret: SECRET, allowPrivate: true, ...config },
    log,
    delaysMs: [1, 1, 1],
    pollMs: 5,
    ...changes,
  });
  stops.push(stop);
  return stop;
}

async function startedJob(changes: Partial<JobSpec> = {}, owner: string | null = null) {
  const spec = aJobSpec({ webhook: { url: `${url}/job?x=1` }, name: 'Ä/b', metadata: { run: '7' }, ...changes });
  const { job } = await store.createJob(spec, { requestHash: 'h', owner });
  const start = await store.attempts.start(job.id, 'worker');
  if (start.outcome !== 'started') throw new Error('the job did not start');
  return { id: job.id, attempt: start.attempt };
}

const delivered = (count: number) => expect.poll(() => received.length).toBe(count);
const emptied = () => expect.poll(() => store.webhooks.count()).toBe(0);

test('the ends of jobs are signed, with the secret of their key', async () => {
  send();
  const owner = 'key_0123456789abcdef01234567';
  const one = await startedJob({}, owner);
  await store.attempts.succeed(one.attempt, `ad_${one.id.slice(4)}`, 3);
  await delivered(1);
  const two = await startedJob();
  await store.attempts.fail(two.attempt, { code: 'out_of_memory', message: 'Too "large".', details: [] });
  await delivered(2);
  const three = await startedJob();
  await store.attempts.cancel(three.attempt);
  const { job: waiting } = await store.createJob(aJobSpec({ webhook: { url: `${url}/job` } }), { requestHash: 'h' });
  await store.requestCancel(waiting.id);
  await delivered(4);
  const bodies = received.map(({ headers, text }, index) => {
    const secret = secretOfOwner(SECRET, index === 0 ? owner : null);
    const verified = new Webhook(secret).verify(text, headers as Record<string, string>) as WebhookBody;
    expect(() => new Webhook(SECRET).verify(text, headers as Record<string, string>)).toThrow();
    expect([...Value.Errors(WebhookBody, verified)]).toEqual([]);
    return verified;
  });
  expect(received[0]).toMatchObject({ path: '/job?x=1', headers: { 'content-type': 'application/json' } });
  expect(bodies[0]).toMatchObject({
    type: 'job.succeeded',
    data: {
      id: one.id,
      status: 'succeeded',
      adapter: `ad_${one.id.slice(4)}`,
      error: null,
      name: 'Ä/b',
      metadata: { run: '7' },
    },
  });
  expect(bodies[1]).toMatchObject({
    type: 'job.failed',
    data: { id: two.id, adapter: null, error: { code: 'out_of_memory', message: 'Too "large".', details: [] } },
  });
  expect(
    bodies
      .slice(2)
      .map(({ type, data }) => [type, data.id])
      .sort(),
  ).toEqual(
    [
      ['job.cancelled', three.id],
      ['job.cancelled', waiting.id],
    ].sort(),
  );
  expect(new Set(received.map(({ headers }) => headers['webhook-id'])).size).toBe(4);
  await emptied();
});

test('an address in the settings gets the ends of all jobs, signed with the secret itself', async () => {
  send({}, { url: `${url}/all` });
  await expect.poll(() => redis.keys('*webhooks:for-all').then(({ length }) => length > 0)).toBe(true);
  const { attempt } = await startedJob();
  await store.attempts.cancel(attempt);
  const other = await startedJob({ webhook: null });
  await store.attempts.cancel(other.attempt);
  await delivered(3);
  const ofAll = received.filter(({ path }) => path === '/all');
  expect(ofAll).toHaveLength(2);
  for (const { headers, text } of ofAll) new Webhook(SECRET).verify(text, headers as Record<string, string>);
  await emptied();
});

test('the end of a sweep is sent to its own address and to that in the settings, with the best adapter', async () => {
  send({}, { url: `${url}/all` });
  await expect.poll(() => redis.keys('*webhooks:for-all').then(({ length }) => length > 0)).toBe(true);
  const spec = aJobSpec({ name: 'v', metadata: { run: '7' } });
  const job = { base_model: spec.base_model, dataset: spec.dataset, metadata: spec.metadata };
  const request = { job, space: { 'lora.r': { values: [2] } }, name: 'Ä', webhook: { url: `${url}/sweep` } };
  const variants = [{ values: { 'lora.r': 2 }, spec, adapterBytes: 1 }];
  const owner = 'key_0123456789abcdef01234567';
  const { sweep } = await store.sweeps.create(request, variants, { requestHash: 'h', owner });
  const best = { best: sweep.variants[0]!.job, adapter: 'ad_0123456789abcdef01234567', metric: 0.5 };
  const outcome = { status: 'succeeded' as const, ranking: [0], metrics: [0.5], ended_at: 'now' };
  for (let i = 0; i < 2; i++) {
    await store.sweeps.conclude(sweep.id, outcome, { type: 'sweep-succeeded', data: best });
  }
  await delivered(2);
  await emptied();
  const [own, all] = ['/sweep', '/all'].map((path) => received.find((one) => one.path === path)!);
  const headersOf = ({ headers }: (typeof received)[number]) => headers as Record<string, string>;
  const verified = new Webhook(secretOfOwner(SECRET, owner)).verify(own!.text, headersOf(own!)) as WebhookBody;
  new Webhook(SECRET).verify(all!.text, headersOf(all!));
  expect([...Value.Errors(WebhookBody, verified)]).toEqual([]);
  expect(verified).toMatchObject({
    type: 'sweep.succeeded',
    data: { id: sweep.id, object: 'sweep', status: 'succeeded', name: 'Ä', metadata: { run: '7' }, ...best },
  });
});

test('a job without a webhook sends nothing', async () => {
  const { attempt } = await startedJob({ webhook: null });
  await store.attempts.cancel(attempt);
  expect(await store.webhooks.count()).toBe(0);
});

test('a failed attempt is repeated with the same id, and a later signature', async () => {
  statuses = [500, 302, 200];
  send();
  const { attempt } = await startedJob();
  await store.attempts.cancel(attempt);
  await delivered(3);
  await emptied();
  expect(new Set(received.map(({ headers }) => headers['webhook-id'])).size).toBe(1);
  for (const { headers, text } of received) {
    new Webhook(secretOfOwner(SECRET, null)).verify(text, headers as Record<string, string>);
  }
});

test.each([
  ['after its last attempt', [500, 500, 500, 500, 500], 4],
  ['at once when the receiver says that it is gone', [410], 1],
])('a webhook is given up %s', async (_, answers, attempts) => {
  statuses = answers;
  send();
  const { attempt } = await startedJob();
  await store.attempts.cancel(attempt);
  await emptied();
  expect(received).toHaveLength(attempts);
});

test('a receiver that does not answer is asked again', async () => {
  statuses = [null, 200];
  send({ timeoutMs: 50 });
  const { attempt } = await startedJob();
  await store.attempts.cancel(attempt);
  await delivered(2);
  await emptied();
});

test('a webhook is sent again where its sender died, and once where several are there', async () => {
  const { attempt } = await startedJob();
  await store.attempts.cancel(attempt);
  // A sender that died right after it had claimed it.
  expect(await store.webhooks.claim(50)).toMatchObject({ attempts: 0, body: { type: 'job.cancelled' } });
  expect(await store.webhooks.claim(50)).toBeNull();
  for (let i = 0; i < 3; i++) send();
  await delivered(1);
  await emptied();
  expect(received).toHaveLength(1);
});

test('a sender that is stopped while it sends leaves it to the next', async () => {
  statuses = [null];
  const stop = send({ leaseMs: 100 });
  const { attempt } = await startedJob();
  await store.attempts.cancel(attempt);
  await delivered(1);
  await stop();
  expect(await store.webhooks.count()).toBe(1);
  send();
  await delivered(2);
  await emptied();
  expect(received[1]!.headers['webhook-id']).toBe(received[0]!.headers['webhook-id']);
});

test('an address in a private network gets nothing unless that is allowed', async () => {
  send({ delaysMs: [] }, { allowPrivate: false });
  const { attempt } = await startedJob();
  await store.attempts.cancel(attempt);
  await emptied();
  expect(received).toEqual([]);
});

test('a job that is resumed reports each of its ends', async () => {
  send();
  const { id, attempt } = await startedJob();
  await store.attempts.fail(attempt, { code: 'internal_error', message: 'x', details: [] });
  await store.resumeJob(id);
  await store.requestCancel(id);
  await delivered(2);
  const types = received.map(({ text }) => (JSON.parse(text) as WebhookBody).type);
  expect(types.sort()).toEqual(['job.cancelled', 'job.failed']);
});
