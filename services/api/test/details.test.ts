import type { ChildProcess } from 'node:child_process';
import { type AdapterManifest, AdapterPage, DatasetPage, JobPage } from '@lorasmith/contracts';
import { Redis } from 'ioredis';
import { Value } from 'typebox/value';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { adapterId, publishReferenceAdapter } from '../../registry/test/published-adapter.js';
import { createAccess, OPEN_ACCESS } from '../src/access/access.js';
import { KeyStore } from '../src/access/key-store.js';
import { promptRows, type RealApi, startRealApi } from './real-api.js';
import { startRegistry } from './registry-process.js';

// Filters of lists, and names, tags and notes of jobs, datasets and adapters: the api with keys, in front of a real registry process.

const MODEL = 'llama-tied';

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
  redis = new Redis(server.url);
  const { prefix } = server;
  keys = new KeyStore({ redis, prefix });
  folder = await startRealApi({ redisUrl: server.url, prefix });
  const started = await startRegistry(folder.folder);
  registry = started.process;
  const limits = OPEN_ACCESS.limits;
  const access = createAccess({ redis, prefix, keys, withoutKeys: 'refuse', limits, uploadTimeoutMs: 60_000 });
  const changes = { access, registry: started.address, adapters: folder.adapters };
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
    method: 'GET' | 'POST' | 'PATCH' | 'DELETE',
    url: string,
    payload?: string | object,
    more = {},
  ) => {
    const headers = { authorization: `Bearer ${token}`, ...more };
    const answer = await api.app.inject({ method, url, headers, ...(payload === undefined ? {} : { payload }) });
    return { status: answer.statusCode, body: answer.body === '' ? null : answer.json() };
  };
  return {
    id: key.id,
    call,
    list: async (path: string) => (await call('GET', path)).body,
    upload: async (text: string, name: string) =>
      (await call('POST', `/datasets?name=${name}`, text, { 'content-type': 'application/x-ndjson' })).body
        .id as string,
  };
}
beforeEach(async () => {
  [one, other] = [await holder(), await holder()];
});

const idsOf = (page: { data: { id: string }[] }) => page.data.map(({ id }) => id);
let published = 0;
/** An adapter of a key, with the name `a-name`. */
async function adapterOf(user: Holder): Promise<string> {
  const id = adapterId(++published);
  await publish(user, id);
  return id;
}
async function publish({ id: owner }: Holder, id: string): Promise<void> {
  const change = (manifest: AdapterManifest) => Object.assign(manifest, { owner });
  await publishReferenceAdapter(folder.adapters, { id, name: MODEL, change });
}
async function jobOf(user: Holder, changes: object = {}): Promise<string> {
  const dataset = await user.upload(promptRows(4), 'rows');
  const { body } = await user.call('POST', '/jobs', { base_model: 'tiny-llama', dataset, ...changes });
  return body.id;
}

const KINDS = {
  jobs: (user: Holder) => jobOf(user, { name: 'a-name' }),
  datasets: (user: Holder) => user.upload(promptRows(3, user.id), 'a-name'),
  adapters: adapterOf,
};
const tags = (...list: unknown[]) => ({ tags: list });
/** Details that are refused, and what the refusal names. */
const BEYOND_BOUNDS: [object, string][] = [
  [{ name: '' }, 'name'],
  [{ name: 'x'.repeat(129) }, 'name'],
  [{ name: 'a\nb' }, 'name'],
  [{ note: 'x'.repeat(4_001) }, 'note'],
  [{ note: 'a\u001b[2J' }, 'note'],
  [{ note: '' }, 'note'],
  [tags(''), 'tags.0'],
  [tags(' a'), 'tags.0'],
  [tags('a,b'), 'tags.0'],
  [tags('a\u200b'), 'tags.0'],
  [tags('x'.repeat(51)), 'tags.0'],
  [tags('a', 'a'), 'tags'],
  [tags(1), 'tags.0'],
  [tags(...Array.from({ length: 21 }, (_, i) => `t${i}`)), 'tags'],
  [{ tags: 'a' }, 'tags'],
];
const MOST = {
  tags: Array.from({ length: 20 }, (_, i) => `${'ü'.repeat(48)}${i}`.slice(0, 50)),
  note: '\t😀\n'.repeat(1_000),
};
const PAGES = { jobs: JobPage, datasets: DatasetPage, adapters: AdapterPage };

describe.each(Object.keys(KINDS) as (keyof typeof KINDS)[])('%s', (kind) => {
  const singular = kind.slice(0, -1);
  const recordOf = async (user: Holder, id: string) =>
    (await user.call('GET', `/${kind}/${id}${kind === 'adapters' ? '/record' : ''}`)).body;

  test('are renamed, tagged and annotated, and found by that', async () => {
    const [changed, plain] = [await KINDS[kind](one), kind === 'datasets' ? null : await KINDS[kind](one)];
    expect(await recordOf(one, changed)).toMatchObject({ name: 'a-name', tags: [], note: null });
    const change = { name: 'Second Try', tags: ['Baseline', 'dates'], note: 'With the\ncorrected rows.' };
    const answer = await one.call('PATCH', `/${kind}/${changed}`, change);
    expect(answer).toMatchObject({ status: 200, body: { id: changed, ...change } });
    expect(await recordOf(one, changed)).toMatchObject(change);
    // What is left out stays.
    expect((await one.call('PATCH', `/${kind}/${changed}`, { note: null })).body).toMatchObject({
      ...change,
      note: null,
    });
    for (const query of ['name=second', 'q=TRY', 'q=baseli', 'tag=baseline', 'tag=dates,Baseline', `q=${changed}`]) {
      const page = await one.list(`/${kind}?${query}`);
      expect([query, idsOf(page), page.total]).toEqual([query, [changed], 1]);
      expect(Value.Check(PAGES[kind], page)).toBe(true);
    }
    for (const query of ['name=a-name', 'tag=base', 'tag=dates,other', 'q=corrected', 'created_before=2020-01-01']) {
      const page = await one.list(`/${kind}?${query}`);
      expect([query, idsOf(page)]).toEqual([query, query === 'name=a-name' && plain !== null ? [plain] : []]);
    }
    const all = await one.list(`/${kind}?limit=1`);
    expect(all.total).toBe(plain === null ? 1 : 2);
    expect((await one.list(`/${kind}?created_after=2020-01-01T00:00:00Z`)).total).toBe(all.total);
    expect((await one.call('PATCH', `/${kind}/${changed}`, { name: null, tags: [] })).body).toMatchObject({
      name: null,
      tags: [],
    });
    expect((await one.list(`/${kind}?tag=dates`)).total).toBe(0);
  });

  test('of another key are neither found, counted nor changed, and a key that reads changes none', async () => {
    const id = await KINDS[kind](one);
    await one.call('PATCH', `/${kind}/${id}`, { tags: ['secret'] });
    expect(await other.list(`/${kind}?tag=secret`)).toMatchObject({ data: [], total: 0 });
    expect(await other.list(`/${kind}`)).toMatchObject({ data: [], total: 0 });
    const refused = await other.call('PATCH', `/${kind}/${id}`, { name: 'mine' });
    expect([refused.status, refused.body.error.code]).toEqual([404, `${singular}_not_found`]);
    const reader = await holder('read');
    expect((await reader.call('PATCH', `/${kind}/${id}`, { name: 'mine' })).status).toBe(403);
    expect(await recordOf(one, id)).toMatchObject({ name: 'a-name', tags: ['secret'] });
  });

  test('take no change that is empty, unknown or beyond a bound', async () => {
    const id = await KINDS[kind](one);
    for (const [change, param] of [[{}, null], [{ status: 'succeeded' }, 'status'], ...BEYOND_BOUNDS] as const) {
      const { status, body } = await one.call('PATCH', `/${kind}/${id}`, change as object);
      expect([change, status, body.error.param]).toEqual([change, 400, param]);
    }
    expect(await recordOf(one, id)).toMatchObject({ name: 'a-name', tags: [], note: null });
    expect(await one.call('PATCH', `/${kind}/${id}`, MOST)).toMatchObject({ status: 200, body: MOST });
    for (const query of [
      'created_after=yesterday',
      'created_after=2026-13-45',
      'tag=',
      'name=',
      `q=${'x'.repeat(129)}`,
    ]) {
      expect([query, (await one.call('GET', `/${kind}?${query}`)).status]).toEqual([query, 400]);
    }
    const missing = id.replace(/_.*/, `_${'0'.repeat(24)}`);
    for (const absent of [missing, 'x']) {
      const { status, body } = await one.call('PATCH', `/${kind}/${absent}`, { name: 'n' });
      expect([status, body.error.code]).toEqual([404, `${singular}_not_found`]);
    }
  });
});

describe('a new job', () => {
  const request = async (changes: object) => ({
    base_model: 'tiny-llama',
    dataset: await one.upload(promptRows(4), 'rows'),
    ...changes,
  });

  test('has the tags and the note of its request, and is found by its tags', async () => {
    const details = { tags: ['Baseline', 'dates'], note: 'With the\ncorrected rows.' };
    const id = await jobOf(one, details);
    await jobOf(one);
    expect(await one.list(`/jobs/${id}`)).toMatchObject(details);
    for (const query of ['tag=dates,baseline', 'q=BASELI']) {
      expect([query, idsOf(await one.list(`/jobs?${query}`))]).toEqual([query, [id]]);
    }
    expect((await one.call('PATCH', `/jobs/${id}`, { tags: [], note: null })).body).toMatchObject({
      tags: [],
      note: null,
    });
    expect((await one.list('/jobs?tag=dates')).total).toBe(0);
    const full = await jobOf(one, MOST);
    expect(await one.list(`/jobs/${full}`)).toMatchObject(MOST);
  });

  test('is refused with tags or a note beyond a bound', async () => {
    for (const [details, param] of BEYOND_BOUNDS) {
      const { status, body } = await one.call('POST', '/jobs', await request(details));
      expect([details, status, body.error.param]).toEqual([details, 400, param]);
    }
    expect((await one.list('/jobs')).total).toBe(0);
  });

  test('with an idempotency key is the same with the same tags alone; no tags and no note are the default', async () => {
    const post = async (changes: object) =>
      await one.call('POST', '/jobs', await request(changes), { 'idempotency-key': 'k' });
    const { status, body } = await post({});
    expect(status).toBe(202);
    expect((await post({ tags: [], note: null })).body.id).toBe(body.id);
    for (const other of [{ tags: ['a'] }, { note: 'n' }]) {
      expect((await post(other)).body.error.code).toBe('idempotency_conflict');
    }
  });

  test('of a sweep has the tags and the note of the template', async () => {
    const details = { tags: ['Ranks'], note: 'Which one?' };
    const job = await request({ ...details, validation: { split: 0.5 } });
    const { status, body } = await one.call('POST', '/sweeps', { job, space: { 'lora.r': { values: [2, 4] } } });
    expect(status).toBe(202);
    const page = await one.list('/jobs?tag=ranks');
    expect(page).toMatchObject({ data: [details, details], total: 2 });
    expect(page.data.map((variant: { sweep: { id: string } }) => variant.sweep.id)).toEqual([body.id, body.id]);
  });
});

test('a list of jobs is filtered, sorted and collapsed by its query', async () => {
  const [slow, fast] = [
    await jobOf(one, { name: 'slow', training: { learning_rate: 1e-5 } }),
    await jobOf(one, { name: 'fast', training: { learning_rate: 1e-3 } }),
  ];
  const ids = async (query: string) => idsOf(await one.list(`/jobs?${query}`));
  expect(await ids('sort=training.learning_rate')).toEqual([slow, fast]);
  expect(await ids('sort=training.learning_rate&order=desc')).toEqual([fast, slow]);
  expect(await ids('sort=name&limit=1')).toEqual([fast]);
  expect(await ids(`sort=name&limit=1&after=${fast}`)).toEqual([slow]);
  expect(await ids('base_model=tiny-llama&status=queued&q=slow')).toEqual([slow]);
  expect(await ids('base_model=another')).toEqual([]);
  const dataset = (await one.list(`/jobs/${slow}`)).dataset;
  expect(await ids(`dataset=${dataset}&collapse=sweep`)).toEqual([fast, slow]);
  expect(await ids(`sweep=sw_${'0'.repeat(24)}`)).toEqual([]);
  for (const query of ['sort=spec', 'sort=training', 'order=up', 'collapse=name', 'sweep=x', 'dataset=x', 'tags=a']) {
    expect([query, (await one.call('GET', `/jobs?${query}`)).status]).toEqual([query, 400]);
  }
});

test('lists of datasets and of adapters are sorted by their query, all and not a page', async () => {
  const named: [number, string][] = [
    [3, 'run-10'],
    [9, 'Run-2'],
    [5, 'a'],
  ];
  const [many, more, few] = await Promise.all(named.map(([rows, name]) => one.upload(promptRows(rows, name), name)));
  const features = await one.upload('{"features":[1,2],"label":0}\n{"features":[2,1],"label":1}\n', 'zero');
  await one.call('PATCH', `/datasets/${features}`, { name: null });
  const adapters = [await adapterOf(one), await adapterOf(one), await adapterOf(one)] as const;
  for (const [index, name] of ['b', 'C', 'a'].entries()) {
    await one.call('PATCH', `/adapters/${adapters[index]}`, { name, tags: index === 2 ? [] : ['old'] });
  }
  const ids = async (path: string) => idsOf(await one.list(path));
  expect(await ids('/datasets?sort=name')).toEqual([few, more, many, features]);
  expect(await ids('/datasets?sort=name&order=desc')).toEqual([many, more, few, features]);
  expect(await ids('/datasets?sort=rows')).toEqual([features, many, few, more]);
  expect(await ids('/datasets?sort=rows&order=desc&q=run')).toEqual([more, many]);
  expect((await ids('/datasets?sort=format'))[0]).toBe(features);
  expect(await ids(`/datasets?sort=name&limit=1&after=${more}`)).toEqual([many]);
  expect((await one.list('/datasets?sort=name&limit=1')).total).toBe(4);
  const newest = await ids('/datasets');
  expect(await ids('/datasets?sort=created_at')).toEqual(newest);
  expect(await ids('/datasets?order=asc')).toEqual(newest.toReversed());
  const [b, c, a] = adapters;
  expect(await ids('/adapters?sort=name')).toEqual([a, b, c]);
  expect(await ids('/adapters?sort=name&order=desc&tag=old')).toEqual([c, b]);
  expect(await ids(`/adapters?sort=name&limit=1&after=${a}`)).toEqual([b]);
  const latest = await ids('/adapters');
  // Of equal ones the newest is first.
  for (const query of ['sort=base_model', 'sort=bytes&order=desc']) {
    expect(await ids(`/adapters?${query}`)).toEqual(latest);
  }
  expect(await ids('/adapters?order=asc')).toEqual(latest.toReversed());
  expect(await other.list('/datasets?sort=name')).toMatchObject({ data: [], total: 0 });
  for (const query of ['sort=tags', 'sort=', 'order=up', 'sort=name&sort=rows']) {
    for (const list of ['datasets', 'adapters']) {
      expect([list, query, (await one.call('GET', `/${list}?${query}`)).status]).toEqual([list, query, 400]);
    }
  }
  expect((await one.call('GET', `/datasets?sort=name&after=${a}`)).status).toBe(400);
});

test('an adapter keeps its files and its manifest when it is renamed, and its new name is gone with it', async () => {
  const id = await adapterOf(one);
  const filesBefore = await one.list(`/adapters/${id}/files`);
  await one.call('PATCH', `/adapters/${id}`, { name: 'renamed' });
  expect(await one.list(`/adapters/${id}/files`)).toEqual(filesBefore);
  expect(await one.list(`/adapters/${id}/manifest`)).toMatchObject({ name: 'a-name' });
  const models = await one.list('/v1/models');
  expect(models.data.map((model: { id: string }) => model.id)).toContain(`ft:${MODEL}:lorasmith:renamed:${id}`);
  expect((await one.call('DELETE', `/adapters/${id}`)).status).toBe(204);
  await publish(one, id);
  expect(await one.list(`/adapters/${id}/record`)).toMatchObject({ name: 'a-name', tags: [] });
});

test('a dataset that is uploaded again keeps its name and tags, and one that was deleted meanwhile has none', async () => {
  const rows = promptRows(3, one.id);
  const id = await one.upload(rows, 'first');
  await one.call('PATCH', `/datasets/${id}`, { name: 'renamed', tags: ['kept'] });
  expect(await one.upload(rows, 'again')).toBe(id);
  expect(await one.list(`/datasets/${id}`)).toMatchObject({ name: 'renamed', tags: ['kept'] });
  expect((await one.call('DELETE', `/datasets/${id}`)).status).toBe(204);
  expect(await one.upload(rows, 'anew')).toBe(id);
  expect(await one.list(`/datasets/${id}`)).toMatchObject({ name: 'anew', tags: [] });
});
