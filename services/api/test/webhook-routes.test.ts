import { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { createAccess, OPEN_ACCESS } from '../src/access/access.js';
import { KeyStore } from '../src/access/key-store.js';
import { checkWebhookConfig } from '../src/webhooks/webhook-config.js';
import { secretOfOwner } from '../src/webhooks/webhook-delivery.js';
import { promptRows, type RealApi, startRealApi } from './real-api.js';

const SECRET = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;

let server: RealRedis;
let redis: Redis;
const apis: RealApi[] = [];
beforeAll(async () => {
  server = await startRealRedis();
  redis = new Redis(server.url, { maxRetriesPerRequest: null });
});
afterAll(async () => {
  for (const api of apis) await api.stop();
  redis.disconnect();
  await server.stop();
});

async function start(secret: string | null, withKeys = false) {
  const prefix = `${server.prefix}${apis.length}:`;
  const keys = new KeyStore({ redis, prefix });
  const { limits } = OPEN_ACCESS;
  const access = createAccess({ redis, prefix, keys, withoutKeys: 'refuse', limits, uploadTimeoutMs: 60_000 });
  const api = await startRealApi({
    redisUrl: server.url,
    prefix,
    changes: { webhooks: { url: null, secret, allowPrivate: false }, ...(withKeys ? { access } : {}) },
  });
  apis.push(api);
  return { api, keys };
}

test('a job has a webhook, which its answer shows, and a wrong one is refused', async () => {
  const { api } = await start(SECRET);
  const headers = { 'content-type': 'text/plain' };
  const dataset = (await api.app.inject({ method: 'POST', url: '/datasets', payload: promptRows(4), headers })).json()
    .id;
  const post = (webhook: unknown, query = '') =>
    api.app.inject({ method: 'POST', url: `/jobs${query}`, payload: { base_model: 'tiny-llama', dataset, webhook } });
  const sent = await post({ url: 'https://example.com/hook' });
  expect([sent.statusCode, sent.json().webhook]).toEqual([202, { url: 'https://example.com/hook' }]);
  expect((await post(null)).json().webhook).toBeNull();
  for (const query of ['', '?dry_run=true']) {
    const refused = await post({ url: 'https://10.0.0.1/' }, query);
    expect(refused.json().error).toMatchObject({ code: 'invalid_job', param: 'webhook.url' });
  }
});

test('without a secret there are no webhooks', async () => {
  const { api } = await start(null);
  const headers = { 'content-type': 'text/plain' };
  const dataset = (await api.app.inject({ method: 'POST', url: '/datasets', payload: promptRows(4), headers })).json()
    .id;
  const payload = { base_model: 'tiny-llama', dataset, webhook: { url: 'https://example.com/' } };
  const refused = await api.app.inject({ method: 'POST', url: '/jobs', payload });
  expect(refused.json().error).toMatchObject({ code: 'invalid_job', param: 'webhook' });
  expect((await api.app.inject('/webhook-secret')).json().error).toMatchObject({ code: 'not_found' });
});

test('each key gets a secret of its own, and one that only reads gets none', async () => {
  const { api, keys } = await start(SECRET, true);
  const one = await keys.create({ name: 'one', role: 'train' });
  const two = await keys.create({ name: 'two', role: 'train' });
  const reader = await keys.create({ name: 'reader', role: 'read', owner: one.key.id });
  const secretOf = async ({ token }: { token: string }) =>
    (await api.app.inject({ url: '/webhook-secret', headers: { authorization: `Bearer ${token}` } })).json();
  expect(await secretOf(one)).toEqual({ object: 'webhook_secret', secret: secretOfOwner(SECRET, one.key.id) });
  expect((await secretOf(two)).secret).not.toBe((await secretOf(one)).secret);
  expect((await secretOf(reader)).error).toMatchObject({ code: 'forbidden' });
});

test('the settings are checked against each other', () => {
  const check = (changes: object) => checkWebhookConfig({ url: null, secret: SECRET, allowPrivate: false, ...changes });
  check({});
  check({ url: 'https://example.com/' });
  check({ url: 'http://127.0.0.1:9000/', allowPrivate: true });
  expect(() => check({ url: 'https://example.com/', secret: null })).toThrow('WEBHOOK_SECRET must be set');
  expect(() => check({ url: 'http://127.0.0.1:9000/' })).toThrow('WEBHOOK_URL cannot be used');
});
