import { readdir } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Dataset, Job } from '@lorasmith/contracts';
import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { createAccess, OPEN_ACCESS } from '../src/access/access.js';
import type { WithoutKeys } from '../src/access/authenticate.js';
import { HubTokens } from '../src/access/hub-tokens.js';
import { KeyStore, type NewKeyOptions } from '../src/access/key-store.js';
import type { AccessLimits } from '../src/access/limits.js';
import { promptRows, type RealApi, startRealApi } from './real-api.js';

let server: RealRedis;
let redis: Redis;
let keys: KeyStore;
let api: RealApi;
let prefix: string;
let round = 0;

beforeAll(async () => {
  server = await startRealRedis();
  redis = new Redis(server.url);
});
afterAll(async () => {
  await redis.quit();
  await server.stop();
});
afterEach(() => api?.stop());

async function start(limits: Partial<AccessLimits> = {}, withoutKeys: WithoutKeys = 'loopback') {
  prefix = `${server.prefix}access-${round++}:`;
  keys = new KeyStore({ redis, prefix });
  const access = createAccess({
    redis,
    prefix,
    keys,
    withoutKeys,
    limits: { ...OPEN_ACCESS.limits, ...limits },
    uploadTimeoutMs: 60_000,
  });
  api = await startRealApi({
    redisUrl: server.url,
    prefix,
    changes: { access },
  });
}

/** A key with functions for calls that use it. */
async function holder(options: Partial<NewKeyOptions> = {}) {
  const { key, token } = await keys.create({ name: 'a name', role: 'train', ...options });
  return { ...callsWith(`Bearer ${token}`), key, token };
}

function callsWith(authorization: string | undefined) {
  const headers: Record<string, string> = authorization === undefined ? {} : { authorization };
  const call = (method: 'GET' | 'POST' | 'PUT' | 'DELETE', url: string, payload?: string | object, more = {}) =>
    api.app.inject({ method, url, headers: { ...headers, ...more }, ...(payload === undefined ? {} : { payload }) });
  return {
    call,
    get: (url: string) => call('GET', url),
    put: (url: string, payload: object) => call('PUT', url, payload),
    upload: async (text: string) => await call('POST', '/datasets', text, { 'content-type': 'application/x-ndjson' }),
    send: (dataset: string, changes = {}) => call('POST', '/jobs', { base_model: 'tiny-llama', dataset, ...changes }),
  };
}

const coded = (answer: { statusCode: number; json(): { error: { code: string } } }) => [
  answer.statusCode,
  answer.json().error.code,
];

describe('without any key', () => {
  test('a service that other machines can reach answers only health and documentation', async () => {
    await start({}, 'refuse');
    const { get, call } = callsWith(undefined);
    for (const url of ['/live', '/ready', '/openapi.json', '/docs/']) expect((await get(url)).statusCode).toBe(200);
    const { headers } = await get('/docs/');
    expect(headers['x-frame-options']).toBe('DENY');
    expect(headers['content-security-policy']).toContain("frame-ancestors 'none'");
    for (const url of ['/jobs', '/datasets', '/models', '/adapters', '/metrics', '/nothing', '/jobs/x/events']) {
      const answer = await get(url);
      expect(coded(answer)).toEqual([401, 'unauthorized']);
      expect(answer.headers['www-authenticate']).toBe('Bearer');
    }
    expect(coded(await call('POST', '/jobs', {}))).toEqual([401, 'unauthorized']);
    expect(coded(await call('DELETE', '/nothing'))).toEqual([401, 'unauthorized']);
  });

  test('a service on the loopback answers this machine, but no page of another site or port', async () => {
    await start();
    const { call, upload } = callsWith(undefined);
    const dataset = (await upload('{"text":"a"}')).json<Dataset>();
    expect(dataset.owner).toBe(null);
    for (const host of ['localhost:8080', '127.0.0.1:1', '[::1]:8080', 'api:8080']) {
      expect((await call('GET', '/datasets', undefined, { host })).statusCode).toBe(200);
    }
    const foreign = [
      { host: 'evil.example' },
      { host: '192.0.2.1:8080' },
      { host: '[2001:db8::1]:8080' },
      { host: 'localhost.evil.example:8080' },
      { origin: 'https://evil.example' },
      { origin: 'http://localhost:3000', host: 'localhost:8080' },
      { 'sec-fetch-site': 'same-site' },
      { 'x-forwarded-for': '192.0.2.1' },
      { origin: 'null' },
      { 'sec-fetch-site': 'cross-site' },
    ];
    for (const headers of foreign) {
      expect(coded(await call('GET', '/datasets', undefined, headers))).toEqual([403, 'forbidden']);
      expect(
        coded(await call('POST', '/datasets', '{"text":"b"}', { ...headers, 'content-type': 'text/plain' })),
      ).toEqual([403, 'forbidden']);
    }
    const own = { host: 'localhost:8080', origin: 'http://localhost:8080', 'sec-fetch-site': 'same-origin' };
    expect((await call('GET', '/datasets', undefined, own)).statusCode).toBe(200);
  });

  test('an empty key, as Prometheus sends it for an empty file, counts as no key', async () => {
    await start();
    for (const header of ['Bearer ', 'Bearer']) {
      const prometheus = callsWith(header);
      expect((await prometheus.call('GET', '/metrics', undefined, { host: 'api:8080' })).statusCode).toBe(200);
    }
    // So does a token that cannot be a key, as clients of the OpenAI API send it. Anything else is a key, and an invalid one.
    expect((await callsWith('Bearer none').get('/jobs')).statusCode).toBe(200);
    for (const header of [`Bearer lsk_${'0'.repeat(24)}_${'x'.repeat(43)}`, 'Basic ']) {
      expect(coded(await callsWith(header).get('/jobs'))[0]).toBe(401);
    }
    await holder();
    expect(coded(await callsWith('Bearer none').get('/jobs'))[0]).toBe(401);
    const refused = await callsWith('Bearer ').get('/metrics');
    expect(coded(refused)).toEqual([401, 'unauthorized']);
    expect(refused.json().error.message).toContain('requires an API key');
  });

  test('the first key closes the service, also for earlier things, and an emptied Redis does not open it again', async () => {
    await start();
    const withoutKey = callsWith(undefined);
    const { id } = (await withoutKey.upload('{"text":"before"}')).json<Dataset>();
    const user = await holder();
    expect(coded(await withoutKey.get('/datasets'))).toEqual([401, 'unauthorized']);
    expect((await user.get('/datasets')).json().data).toEqual([]);
    expect(coded(await user.get(`/datasets/${id}`))).toEqual([404, 'dataset_not_found']);
    const admin = await holder({ role: 'admin' });
    expect((await admin.get(`/datasets/${id}`)).statusCode).toBe(200);
    await redis.del(`${prefix}api-keys`);
    expect(coded(await withoutKey.get('/datasets'))).toEqual([401, 'unauthorized']);
    expect(coded(await admin.get('/datasets'))).toEqual([401, 'unauthorized']);
  });
});

describe('a key', () => {
  beforeEach(() => start());

  test('is stored as a hash, and Redis never contains its secret', async () => {
    const { token } = await holder();
    const secret = token.slice(-43);
    const dump = await Promise.all([redis.hgetall(`${prefix}api-keys`), redis.keys(`${prefix}*`)]);
    expect(JSON.stringify(dump)).not.toContain(secret);
    expect(JSON.stringify(await keys.list())).not.toMatch(/sha256|[0-9a-f]{64}/);
  });

  test.each([
    ['no Bearer', (token: string) => token],
    ['another scheme', (token: string) => `Basic ${token}`],
    ['cut short', (token: string) => `Bearer ${token.slice(0, -1)}`],
    ['made longer', (token: string) => `Bearer ${token}A`],
    ['another secret', (token: string) => `Bearer ${token.slice(0, -43)}${'A'.repeat(43)}`],
    ['an unknown id', (token: string) => `Bearer lsk_${'0'.repeat(24)}${token.slice(28)}`],
    ['nothing', () => 'Bearer '],
    ['two of them', (token: string) => `Bearer ${token}, Bearer ${token}`],
    ['a field of an object', () => 'Bearer __proto__'],
  ])('a key with %s is invalid', async (_name, spoil) => {
    const { token, get } = await holder();
    expect((await get('/jobs')).statusCode).toBe(200);
    const answer = await callsWith(spoil(token)).get('/jobs');
    expect(coded(answer)).toEqual([401, 'unauthorized']);
    expect(answer.body).not.toContain(token.slice(28));
  });

  test('the token of the hub is its own, is stored encrypted, and goes with the key that stored it', async () => {
    const hubTokens = new HubTokens({ redis, prefix, secretsKey: 's'.repeat(40) });
    await api.stop();
    const access = createAccess({
      ...{ redis, prefix, keys, withoutKeys: 'refuse' as const },
      limits: OPEN_ACCESS.limits,
      uploadTimeoutMs: 60_000,
    });
    api = await startRealApi({ redisUrl: server.url, prefix, changes: { access, hubTokens } });
    const [one, other] = [await holder(), await holder()];
    const second = await holder({ owner: one.key.id });
    const reader = await holder({ role: 'read', owner: one.key.id });
    const secret = 'hf_ofOneAlone12345678';
    expect(coded(await reader.put('/hub-token', { token: secret }))).toEqual([403, 'forbidden']);
    const stored = await one.put('/hub-token', { token: secret });
    expect([stored.statusCode, stored.json().stored_at]).toEqual([200, expect.any(String)]);
    for (const user of [one, second, reader]) expect((await user.get('/hub-token')).json()).toEqual(stored.json());
    expect((await other.get('/hub-token')).json()).toEqual({ object: 'hub_token', stored_at: null });
    expect(JSON.stringify(await redis.hgetall(`${prefix}hub-tokens`))).not.toContain(secret);
    expect(await hubTokens.tokenOf(one.key.id)).toBe(secret);
    // What another owner's field has is not opened as this one's.
    const moved = await redis.hget(`${prefix}hub-tokens`, one.key.id);
    await redis.hset(`${prefix}hub-tokens`, other.key.id, moved ?? '');
    await expect(hubTokens.tokenOf(other.key.id)).rejects.toMatchObject({ code: 'invalid_delivery' });
    // A key that did not store it leaves it.
    await keys.revoke(second.key.id);
    expect(await hubTokens.tokenOf(one.key.id)).toBe(secret);
    await keys.revoke(one.key.id);
    await expect(hubTokens.tokenOf(one.key.id)).rejects.toMatchObject({ code: 'invalid_delivery' });
    const late = hubTokens.store(secret, { owner: one.key.id, key: one.key.id });
    await expect(late).rejects.toMatchObject({ code: 'unauthorized' });
    const without = new HubTokens({ redis, prefix, secretsKey: null });
    await expect(without.store(secret, { owner: null, key: null })).rejects.toThrow('SECRETS_KEY');
    const broken = await other.put('/hub-token', { token: `${secret} with a blank` });
    expect([broken.statusCode, broken.body.includes(secret)]).toEqual([400, false]);
  });

  test('a key that is revoked is refused on the next call, and its event streams end', async () => {
    const user = await holder();
    const { id } = (await user.send((await user.upload(promptRows(4))).json<Dataset>().id)).json<Job>();
    const url = await api.app.listen({ host: '127.0.0.1', port: 0 });
    const headers = { authorization: `Bearer ${user.token}`, accept: 'text/event-stream' };
    const stream = await fetch(`${url}/jobs/${id}/events`, { headers });
    expect(stream.status).toBe(200);
    const read = stream.text();
    const revoked = await keys.revoke(user.key.id);
    expect(revoked.revoked_at).not.toBe(null);
    expect(coded(await user.get('/jobs'))).toEqual([401, 'unauthorized']);
    expect((await fetch(`${url}/jobs/${id}/events`, { headers })).status).toBe(401);
    // There is no worker, so only the revocation can end the stream.
    expect(await read).toContain('job-queued');
    // Only the first revocation counts, and the key remains listed.
    expect((await keys.revoke(user.key.id)).revoked_at).toBe(revoked.revoked_at);
    expect(coded(await callsWith(undefined).get('/jobs'))).toEqual([401, 'unauthorized']);
  });

  test('answers a refused request whatever its body', async () => {
    await holder();
    const url = await api.app.listen({ host: '127.0.0.1', port: 0 });
    const body = '{"text":"x"}\n'.repeat(500_000);
    const answer = await fetch(`${url}/datasets`, { method: 'POST', headers: { 'content-type': 'text/plain' }, body });
    expect(answer.status).toBe(401);
    expect(((await answer.json()) as { error: { code: string } }).error.code).toBe('unauthorized');
  });
});

describe('a thing that belongs to a key', () => {
  beforeEach(() => start());

  test('does not exist for another key, in any call', async () => {
    const [one, other] = [await holder(), await holder()];
    const dataset = (await one.upload(promptRows(4))).json<Dataset>();
    expect(dataset.owner).toBe(one.key.id);
    const job = (await one.send(dataset.id)).json<Job>();
    expect(job.owner).toBe(one.key.id);
    const absent = { dataset: `ds_${'0'.repeat(24)}`, job: `job_${'0'.repeat(24)}` };
    const calls: ['GET' | 'POST' | 'DELETE', string][] = [
      ['GET', `/datasets/${dataset.id}`],
      ['GET', `/datasets/${dataset.id}/rows`],
      ['GET', `/datasets/${dataset.id}/rows?base_model=tiny-llama`],
      ['DELETE', `/datasets/${dataset.id}`],
      ['GET', `/jobs/${job.id}`],
      ['DELETE', `/jobs/${job.id}`],
      ['POST', `/jobs/${job.id}/cancel`],
      ['POST', `/jobs/${job.id}/resume`],
      ['GET', `/jobs/${job.id}/checkpoints`],
      ['POST', `/jobs/${job.id}/checkpoints/last/publish`],
      ['GET', `/jobs/${job.id}/events`],
      ['GET', `/jobs/${job.id}/events?after=nonsense`],
      ['GET', `/jobs?after=${job.id}`],
      ['GET', `/datasets?after=${dataset.id}`],
    ];
    for (const [method, url] of calls) {
      // Exactly the answer for a thing that does not exist.
      const theirs = await other.call(method, url);
      const nothing = await other.call(method, url.replace(dataset.id, absent.dataset).replace(job.id, absent.job));
      const plain = (body: string) =>
        body
          .replaceAll(dataset.id, absent.dataset)
          .replaceAll(job.id, absent.job)
          .replaceAll(/"request_id":"[^"]*"/g, '');
      expect([method, url, theirs.statusCode, plain(theirs.body)]).toEqual([
        method,
        url,
        nothing.statusCode,
        plain(nothing.body),
      ]);
      expect([400, 404]).toContain(theirs.statusCode);
    }
    expect(coded(await other.send(dataset.id))).toEqual([404, 'dataset_not_found']);
    const dry = await other.call('POST', '/jobs?dry_run=true', { base_model: 'tiny-llama', dataset: dataset.id });
    expect(coded(dry)).toEqual([404, 'dataset_not_found']);
    const own = (await other.upload(promptRows(3))).json<Dataset>();
    const evaluated = { base_model: 'tiny-llama', dataset: own.id, validation: { dataset: dataset.id } };
    expect(coded(await other.call('POST', '/jobs?dry_run=true', evaluated))).toEqual([404, 'dataset_not_found']);
    expect((await other.call('DELETE', `/datasets/${own.id}`)).statusCode).toBe(204);
    expect((await other.get('/datasets')).json().data).toEqual([]);
    expect((await other.get('/jobs')).json().data).toEqual([]);
    expect((await other.get('/jobs?status=queued')).json().data).toEqual([]);
    // Its owner and an admin still see it.
    const admin = await holder({ role: 'admin' });
    for (const { get } of [one, admin]) {
      expect((await get('/datasets')).json().data).toEqual([dataset]);
      expect((await get(`/jobs/${job.id}`)).json()).toEqual({ ...job, queue: expect.any(Object) });
      expect((await get('/jobs?status=queued')).json().data).toEqual([job]);
    }
    expect((await one.call('POST', `/jobs/${job.id}/cancel`)).statusCode).toBe(200);
  });

  test('has its own record, even if another key has uploaded the same bytes', async () => {
    const [one, other] = [await holder(), await holder()];
    const rows = promptRows(4, 'the same');
    const first = await one.upload(rows);
    const second = await other.upload(rows);
    expect([first.statusCode, second.statusCode]).toEqual([201, 201]);
    expect(first.json<Dataset>().sha256).toBe(second.json<Dataset>().sha256);
    expect(first.json<Dataset>().id).not.toBe(second.json<Dataset>().id);
    expect((await one.upload(rows)).json()).toEqual(first.json());
    expect((await other.get('/datasets')).json().data).toEqual([second.json()]);
    expect((await one.call('DELETE', `/datasets/${first.json().id}`)).statusCode).toBe(204);
    expect((await other.get(`/datasets/${second.json().id}`)).statusCode).toBe(200);
    expect((await one.upload(rows)).statusCode).toBe(201);
  });

  test('does not share its Idempotency-Key with other keys', async () => {
    const [one, other] = [await holder(), await holder()];
    const send = async ({ upload, call }: typeof one, rows: number) => {
      const dataset = (await upload(promptRows(rows))).json<Dataset>().id;
      return await call('POST', '/jobs', { base_model: 'tiny-llama', dataset }, { 'idempotency-key': 'k' });
    };
    const [first, second] = [await send(one, 4), await send(other, 5)];
    expect([first.statusCode, second.statusCode]).toEqual([202, 202]);
    expect(first.json().id).not.toBe(second.json().id);
    expect((await send(one, 4)).json().id).toBe(first.json().id);
  });

  test('is not found by the names of other Redis keys', async () => {
    const one = await holder();
    const job = (await one.send((await one.upload(promptRows(4))).json<Dataset>().id)).json<Job>();
    await redis.set(`${prefix}job:${job.id}:cleanup`, 'token');
    for (const id of [`${job.id}:events`, `${job.id}:cleanup`]) {
      const calls: ['GET' | 'POST' | 'DELETE', string][] = [
        ['GET', ''],
        ['DELETE', ''],
        ['GET', '/events'],
        ['GET', '/checkpoints'],
        ['POST', '/cancel'],
        ['POST', '/resume'],
        ['POST', '/checkpoints/last/publish'],
      ];
      for (const [method, rest] of calls) {
        const answer = await one.call(method, `/jobs/${id}${rest}`);
        expect([method, rest, ...coded(answer)]).toEqual([method, rest, 404, 'job_not_found']);
      }
    }
  });

  test('is seen with another key of the same owner, which can replace the first', async () => {
    const one = await holder();
    const dataset = (await one.upload('{"text":"kept"}')).json<Dataset>();
    const next = await holder({ owner: one.key.id });
    await keys.revoke(one.key.id);
    expect((await next.get('/datasets')).json().data).toEqual([dataset]);
    expect((await next.upload('{"text":"new"}')).json<Dataset>().owner).toBe(one.key.id);
  });

  test('cannot be trained further by another key', async () => {
    const [one, other] = [await holder(), await holder()];
    const adapter = 'ad_0123456789abcdef01234567';
    const staging = await api.adapters.stage();
    await staging.write('manifest.json', [Buffer.from(JSON.stringify({ id: adapter, owner: one.key.id }))]);
    await api.adapters.publish(staging, adapter);
    const dataset = (await other.upload(promptRows(4))).json<Dataset>().id;
    const own = (await one.upload(promptRows(4))).json<Dataset>().id;
    const lora = { init_from: adapter };
    expect(coded(await other.send(dataset, { lora }))).toEqual([404, 'adapter_not_found']);
    // For its owner the adapter exists, but its manifest is invalid.
    expect(coded(await one.send(own, { lora }))).toEqual([422, 'invalid_adapter']);
  });
});

describe('a role', () => {
  beforeEach(() => start());

  test('a role that reads cannot change anything, and sees the things of its owner', async () => {
    const one = await holder();
    const dataset = (await one.upload(promptRows(4))).json<Dataset>();
    const job = (await one.send(dataset.id)).json<Job>();
    const reader = await holder({ role: 'read', owner: one.key.id });
    expect((await reader.get(`/jobs/${job.id}`)).json()).toEqual({ ...job, queue: expect.any(Object) });
    expect((await reader.get('/datasets')).json().data).toEqual([dataset]);
    expect((await reader.get('/key')).json()).toEqual({
      object: 'key',
      id: reader.key.id,
      name: 'a name',
      role: 'read',
    });
    expect((await one.get('/key')).json().role).toBe('train');
    const changes: ['POST' | 'DELETE', string][] = [
      ['POST', '/datasets'],
      ['POST', '/jobs'],
      ['POST', '/jobs?dry_run=true'],
      ['POST', `/jobs/${job.id}/cancel`],
      ['POST', `/jobs/${job.id}/checkpoints/last/publish`],
      ['DELETE', `/jobs/${job.id}`],
      ['DELETE', `/datasets/${dataset.id}`],
      ['POST', '/adapters'],
      ['DELETE', '/adapters/ad_0123456789abcdef01234567'],
    ];
    for (const [method, url] of changes) expect(coded(await reader.call(method, url))).toEqual([403, 'forbidden']);
    expect((await one.get(`/jobs/${job.id}`)).json().status).toBe('queued');
    // It must not see the figures of all keys.
    expect(coded(await reader.get('/metrics'))).not.toEqual([200]);
    const watcher = await holder({ role: 'read', owner: 'all' });
    expect((await watcher.get(`/jobs/${job.id}`)).statusCode).toBe(200);
    expect(coded(await watcher.call('DELETE', `/jobs/${job.id}`))).toEqual([403, 'forbidden']);
  });
});

describe('limits of a key', () => {
  test('limits of a key on calls are counted per minute and per key', async () => {
    await start({ requestsPerMinute: 5 });
    const [one, other] = [await holder(), await holder({ limits: { requests_per_minute: 7 } })];
    const answers = await Promise.all(Array.from({ length: 9 }, () => one.get('/models')));
    expect(answers.filter(({ statusCode }) => statusCode === 200)).toHaveLength(5);
    const refused = answers.find(({ statusCode }) => statusCode === 429)!;
    expect(coded(refused)).toEqual([429, 'too_many_requests']);
    expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0);
    expect(Number(refused.headers['retry-after'])).toBeLessThanOrEqual(60);
    const others = await Promise.all(Array.from({ length: 9 }, () => other.get('/models')));
    expect(others.filter(({ statusCode }) => statusCode === 200)).toHaveLength(7);
    // Health checks do not count.
    for (let i = 0; i < 10; i++) expect((await one.get('/live')).statusCode).toBe(200);
  });

  test('limits of a key on unfinished jobs, and on the waiting jobs of all keys', async () => {
    await start({ activeJobs: 2, waitingJobs: 3 });
    const [one, other] = [await holder(), await holder()];
    const dataset = (await one.upload(promptRows(4))).json<Dataset>().id;
    const jobs = [await one.send(dataset), await one.send(dataset)];
    expect(jobs.map(({ statusCode }) => statusCode)).toEqual([202, 202]);
    const third = await one.send(dataset);
    expect(coded(third)).toEqual([429, 'quota_exceeded']);
    expect(third.headers['retry-after']).toBe('30');
    const others = (await other.upload(promptRows(4))).json<Dataset>().id;
    expect((await other.send(others)).statusCode).toBe(202);
    expect(coded(await other.send(others))).toEqual([429, 'queue_full']);
    await one.call('POST', `/jobs/${jobs[0]!.json().id}/cancel`);
    expect((await one.send(dataset)).statusCode).toBe(202);
  });

  test('limits of a key on stored ended jobs: a new job removes the oldest ones', async () => {
    await start({ keptJobs: 2 });
    const [one, other] = [await holder(), await holder()];
    const sendAndCancel = async (by: typeof one, dataset: string) => {
      const { id } = (await by.send(dataset)).json<Job>();
      await by.call('POST', `/jobs/${id}/cancel`);
      return id;
    };
    const dataset = (await one.upload(promptRows(4))).json<Dataset>().id;
    const theirs = await sendAndCancel(other, (await other.upload(promptRows(4))).json<Dataset>().id);
    const ended: string[] = [];
    for (let i = 0; i < 4; i++) ended.unshift(await sendAndCancel(one, dataset));
    const waiting = (await one.send(dataset)).json<Job>().id;
    const mine = (await one.get('/jobs')).json<{ data: Job[] }>().data.map(({ id }) => id);
    expect(mine).toEqual([waiting, ...ended.slice(0, 2)]);
    expect(coded(await one.get(`/jobs/${ended[3]}`))).toEqual([404, 'job_not_found']);
    expect((await other.get(`/jobs/${theirs}`)).statusCode).toBe(200);
  });

  test('limits of a key on event streams, which no longer count once they are closed', async () => {
    await start({ eventStreams: 2, totalEventStreams: 3 });
    const [one, other] = [await holder(), await holder()];
    const url = await api.app.listen({ host: '127.0.0.1', port: 0 });
    const open = async ({ token, upload, send }: typeof one) => {
      const { id } = (await send((await upload(promptRows(4))).json<Dataset>().id)).json<Job>();
      return async () => {
        const hangUp = new AbortController();
        const headers = { authorization: `Bearer ${token}`, accept: 'text/event-stream' };
        const answer = await fetch(`${url}/jobs/${id}/events`, { headers, signal: hangUp.signal });
        return { status: answer.status, hangUp: () => hangUp.abort() };
      };
    };
    const [mine, theirs] = [await open(one), await open(other)];
    const first = await mine();
    expect([first.status, (await mine()).status, (await mine()).status]).toEqual([200, 200, 429]);
    expect([(await theirs()).status, (await theirs()).status]).toEqual([200, 503]);
    first.hangUp();
    await expect.poll(async () => (await mine()).status, { message: 'the closed stream still counts' }).toBe(200);
  });

  test('limits of a key on uploads in progress, which no longer count once they have ended', async () => {
    await start({ uploads: 2, totalUploads: 3 });
    const [one, other] = [await holder(), await holder()];
    const port = Number(new URL(await api.app.listen({ host: '127.0.0.1', port: 0 })).port);
    const underWay: Socket[] = [];
    const begin = async ({ token }: typeof one) => {
      const socket = connect(port, '127.0.0.1');
      socket.on('error', () => {});
      socket.write(
        `POST /datasets HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\ncontent-type: text/plain\r\ncontent-length: 900\r\n\r\n{`,
      );
      underWay.push(socket);
      const staging = path.join(api.folder, '.staging');
      await expect.poll(async () => (await readdir(staging)).length).toBe(underWay.length);
      return socket;
    };
    const first = await begin(one);
    await begin(one);
    const refused = await one.upload(promptRows(4));
    expect(coded(refused)).toEqual([429, 'quota_exceeded']);
    expect(refused.headers['retry-after']).toBe('30');
    await begin(other);
    expect(coded(await other.upload(promptRows(4)))).toEqual([503, 'service_unavailable']);
    expect((await one.get('/datasets')).statusCode).toBe(200);
    first.destroy();
    await expect.poll(async () => (await one.upload(promptRows(4))).statusCode, { interval: 50 }).toBe(201);
    // An upload that is refused for its rows no longer counts either.
    for (let i = 0; i < 3; i++) expect(coded(await one.upload('x'))).toEqual([422, 'invalid_dataset']);
    for (const socket of underWay) socket.destroy();
  });

  test('limits of a key on bytes of datasets hold for concurrent uploads', async () => {
    const rows = (label: string) => promptRows(20, label);
    const bytes = rows('a').length;
    await start({ datasetBytes: 3.5 * bytes, totalDatasetBytes: 5 * bytes });
    const [one, other] = [await holder(), await holder()];
    const answers = await Promise.all([...'abcdefgh'].map((label) => one.upload(rows(label))));
    expect(answers.filter(({ statusCode }) => statusCode === 201).length).toBeLessThanOrEqual(3);
    for (const answer of answers.filter(({ statusCode }) => statusCode !== 201)) {
      expect(coded(answer)).toEqual([429, 'quota_exceeded']);
    }
    // One after the other, uploads succeed up to the quota, because nothing is reserved any more.
    for (const label of 'ijk') await one.upload(rows(label));
    const mine = (await one.get('/datasets')).json<{ data: Dataset[] }>().data;
    expect(mine).toHaveLength(3);
    expect(coded(await one.upload(rows('l')))).toEqual([429, 'quota_exceeded']);
    // The limit of all keys allows two more.
    for (const label of 'mn') expect((await other.upload(rows(label))).statusCode).toBe(201);
    expect(coded(await other.upload(rows('o')))).toEqual([507, 'storage_full']);
    await one.call('DELETE', `/datasets/${mine[0]!.id}`);
    expect((await other.upload(rows('o'))).statusCode).toBe(201);
  });

  test('limits of a key on the number of datasets allow uploading an existing dataset again', async () => {
    await start({ datasets: 2, totalDatasets: 3 });
    const [one, other] = [await holder(), await holder()];
    const mine = [await one.upload(promptRows(3)), await one.upload(promptRows(4))];
    expect(mine.map(({ statusCode }) => statusCode)).toEqual([201, 201]);
    const third = await one.upload(promptRows(5));
    expect(coded(third)).toEqual([429, 'quota_exceeded']);
    expect(third.json().error.message).toContain('2 datasets, and its limit is 2. Delete some');
    expect((await other.upload(promptRows(3))).statusCode).toBe(201);
    const fourth = await other.upload(promptRows(4));
    expect(coded(fourth)).toEqual([507, 'storage_full']);
    expect(fourth.json().error.message).toContain('The service stores 3 datasets, and its limit is 3. Delete some');
    for (const again of [await one.upload(promptRows(4)), await other.upload(promptRows(3))]) {
      expect(again.statusCode).toBe(200);
    }
    expect(await readdir(path.join(api.folder, '.staging'))).toEqual([]);
    await one.call('DELETE', `/datasets/${mine[0]!.json<Dataset>().id}`);
    expect((await one.upload(promptRows(5))).statusCode).toBe(201);
  });

  test('limits of a key on bytes hold for uploads without a declared length', async () => {
    await start({ datasetBytes: 3_000 });
    const one = await holder();
    const url = await api.app.listen({ host: '127.0.0.1', port: 0 });
    const send = async (rows: number) => {
      const body = new ReadableStream<Uint8Array>({
        async start(controller) {
          for (const line of promptRows(rows).split(/(?<=\n)/)) {
            controller.enqueue(Buffer.from(line));
            await sleep(1);
          }
          controller.close();
        },
      });
      const headers = { authorization: `Bearer ${one.token}`, 'content-type': 'text/plain' };
      return (await fetch(`${url}/datasets`, { method: 'POST', headers, body, duplex: 'half' } as RequestInit)).status;
    };
    expect(await send(50)).toBe(201);
    expect(await send(90)).toBe(429);
    expect(await send(10)).toBe(201);
  });
});
