import type { ChildProcess } from 'node:child_process';
import { cp, mkdir, readdir, readFile, readlink, rm, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import {
  type AdapterManifest,
  type Delivery,
  type DeliveryTarget,
  deliveryPlace,
  type ErrorBody,
  type ProbeCase,
  type VllmTarget,
} from '@lorasmith/contracts';
import { createLogger } from '@lorasmith/service-kit';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { VllmServer } from '../../../test/vllm-server.js';
import { adapterId, addBaseModel, publishReferenceAdapter, REFERENCE } from '../../registry/test/published-adapter.js';
import { registryFiles } from '../src/deliveries/adapter-source.js';
import { type DeliveryKinds, NO_DELIVERIES } from '../src/deliveries/delivery-kind.js';
import { deliveryKinds } from '../src/deliveries/delivery-kinds.js';

import { type DeliveryRunnerOptions, startDeliveries } from '../src/deliveries/delivery-runner.js';
import type { NamedAdapters } from '../src/deliveries/kinds/name.js';
import { promptRows, type RealApi, startRealApi } from './real-api.js';
import { startRegistry } from './registry-process.js';

// The routes and the runner with a real Redis, a real registry and its files, and a server that behaves as vLLM does.

const MODEL = 'llama-tied';
const NAME = 'dates';
const [ONE, TWO, IMPORTED] = [adapterId(1), adapterId(2), adapterId(3)];
const KEY = 'the-key-of-the-servers';
const SCHEMAS = ['adapter_config.json', 'adapter_model.safetensors'];

let redis: RealRedis;
let api: RealApi;
let registry: ChildProcess;
let vllm: VllmServer;
let folder: string;
/** Restarts the runner, with other options. */
let run: (changes?: Partial<DeliveryRunnerOptions>) => void;
let stop: () => Promise<void>;
/** Gives up a server that hangs after 0.3 s. */
let impatient: DeliveryKinds;
let round = 0;
const lines: string[] = [];

/** The prompts of an adapter, with numbers of its own. */
const casesOf = (number: number): ProbeCase[] =>
  [1, 2].map((first) => ({
    prompt: `prompt ${first}`,
    token_ids: [first, 5, 6],
    next_tokens: [
      { id: 10, text: ' 2021', base_logprob: -4, adapter_logprob: -0.1 * number },
      { id: 11, text: ' March', base_logprob: -0.1, adapter_logprob: -2 - number },
    ],
  }));

async function publish(id: string, { cases, initial = false }: { cases: ProbeCase[] | null; initial?: boolean }) {
  await publishReferenceAdapter(api.adapters, {
    id,
    name: MODEL,
    prepare: async (staged) => {
      if (initial) await cp(path.join(REFERENCE, MODEL, 'adapter_init'), staged, { recursive: true });
    },
    change(manifest) {
      if (cases === null) manifest.origin = { kind: 'imported' };
      else if (manifest.origin.kind === 'trained')
        manifest.origin.probe = { kind: 'next-token', precision: 'float32', cases };
    },
  });
}

beforeAll(async () => {
  redis = await startRealRedis();
  const places = await startRealApi({ redisUrl: redis.url, prefix: `${redis.prefix}other:` });
  await addBaseModel(`${places.folder}/models`, MODEL);
  const started = await startRegistry(places.folder);
  registry = started.process;
  vllm = await new VllmServer().start();
  folder = path.join(places.folder, 'deliveries');
  const options = {
    config: {
      ...NO_DELIVERIES,
      servers: [`${vllm.url.replace('http', 'HTTP')}/`],
      serverKey: KEY,
      folder,
      folderOnServer: null,
    },
    source: registryFiles(started.address),
    hubTokens: places.hubTokens,
  };
  const kindsOf = (names: NamedAdapters) => {
    impatient = deliveryKinds({ ...options, names, vllmTimeouts: { answerMs: 300, loadMs: 300, probeMs: 300 } });
    return deliveryKinds({ ...options, names });
  };
  api = await startRealApi({
    redisUrl: redis.url,
    prefix: redis.prefix,
    changes: { adapters: places.adapters, registry: started.address, deliveryKinds: kindsOf },
  });
  Object.assign(api, { adapters: places.adapters });
  const log = createLogger({
    service: 'api',
    level: 'info',
    destination: { write: (line: string) => void lines.push(line) },
  });
  run = (changes = {}) => {
    stop = startDeliveries({
      store: api.jobs.deliveries,
      requests: api.parts.deliveries,
      adapters: places.adapters,
      kinds: api.parts.deliveryKinds,
      log,
      delaysMs: [1, 1],
      pollMs: 5,
      ...changes,
    });
  };
  stopPlaces = () => places.stop();
  await publish(ONE, { cases: casesOf(1) });
  await publish(TWO, { cases: casesOf(2), initial: true });
  await publish(IMPORTED, { cases: null });
  for (const id of [ONE, TWO]) vllm.knows((await api.adapters.readJson(id, 'manifest.json')) as AdapterManifest);
});
let stopPlaces = async () => {};
afterAll(async () => {
  registry?.kill('SIGKILL');
  await vllm?.stop();
  await api?.stop();
  await stopPlaces();
  await redis?.stop();
});
beforeEach(() => {
  round++;
  vllm.faults = {
    ...vllm.faults,
    withoutUpdating: false,
    withoutLora: false,
    hangsAt: [],
    otherBase: false,
    ignoresAdapters: false,
    restartsAfterLoad: 0,
  };
  vllm.key = KEY;
  vllm.loaded.clear();
  vllm.calls.length = 0;
  run();
});
afterEach(() => stop());

const toServer = (changes: object = {}): VllmTarget => ({
  kind: 'vllm',
  url: vllm.url,
  name: `${NAME}-${round}`,
  ...changes,
});
const inject = async (method: 'GET' | 'POST', url: string, payload?: object) => {
  const answer = await api.app.inject({ method, url, ...(payload === undefined ? {} : { payload }) });
  return {
    status: answer.statusCode,
    headers: answer.headers,
    body: answer.json() as Delivery & ErrorBody & { data: Delivery[] },
  };
};
const ask = async (id: string, to: DeliveryTarget): Promise<Delivery> => {
  const { status, headers, body } = await inject('POST', `/adapters/${id}/deliveries`, to);
  expect([status, body.error]).toEqual([202, null]);
  expect(headers.location).toBe(`/deliveries/${body.id}`);
  return body;
};
/** The delivery once it has ended. */
const ended = async ({ id }: Delivery): Promise<Delivery> =>
  await expect
    .poll(async () => (await inject('GET', `/deliveries/${id}`)).body, { timeout: 20_000 })
    .toMatchObject({ ended_at: expect.any(String) })
    .then(async () => (await inject('GET', `/deliveries/${id}`)).body);
const deliver = async (id: string, to: DeliveryTarget) => await ended(await ask(id, to));
const filesOf = (name: string) => path.join(folder, 'servers', vllm.url.replace(/[^A-Za-z0-9.-]+/g, '_'), name);

test('a server answers with the adapter, and then with the one that replaces it in place', async () => {
  const to = toServer();
  const first = await deliver(ONE, to);
  expect(first).toMatchObject({
    status: 'delivered',
    attempts: 1,
    error: null,
    replaced: null,
    probe: { verdict: 'adapter', adapter_distance: 0 },
  });
  const place = filesOf(to.name);
  expect(vllm.loaded.get(to.name)).toBe(path.join(place, ONE));
  const loads = () => vllm.calls.filter(({ path: route }) => route === '/v1/load_lora_adapter');
  expect(loads().map(({ body }) => body)).toEqual([{ lora_name: to.name, lora_path: path.join(place, ONE) }]);
  for (const name of SCHEMAS) {
    const source = await readFile(path.join(REFERENCE, MODEL, 'adapter_trained', name));
    if (name.endsWith('.safetensors')) expect(await readFile(path.join(place, ONE, name))).toEqual(source);
  }
  expect((await readdir(path.join(place, ONE))).sort()).toEqual(SCHEMAS);
  const second = await deliver(TWO, to);
  expect(second).toMatchObject({ status: 'delivered', replaced: ONE, probe: { verdict: 'adapter' } });
  expect(loads()[1]!.body).toEqual({ lora_name: to.name, lora_path: path.join(place, TWO), load_inplace: true });
  // The files of the one before stay until the next delivery.
  expect((await readdir(place)).sort()).toEqual([ONE, TWO]);
  expect(await deliver(TWO, to)).toMatchObject({ status: 'delivered', replaced: TWO });
  expect(await readdir(place)).toEqual([TWO]);
  const listed = (await inject('GET', `/adapters/${TWO}/deliveries`)).body.data;
  expect(listed.filter((one) => deliveryPlace(one.to) === deliveryPlace(to))).toHaveLength(2);
  expect(vllm.calls.every(({ authorization }) => authorization === `Bearer ${KEY}`)).toBe(true);
});

test('an adapter with which the server does not answer is rolled back to the one before', async () => {
  const to = toServer();
  await deliver(ONE, to);
  vllm.faults.otherBase = true;
  const wrong = await deliver(TWO, to);
  expect(wrong).toMatchObject({ status: 'failed', attempts: 1, replaced: ONE, probe: { verdict: 'neither' } });
  expect(wrong.error).toMatchObject({ code: 'delivery_not_verified' });
  expect(wrong.error!.message).toContain(`The server has loaded ${ONE} again.`);
  expect(vllm.loaded.get(to.name)).toBe(path.join(filesOf(to.name), ONE));
});

test('an adapter under a new name is unloaded if the server answers as the base does', async () => {
  vllm.faults.ignoresAdapters = true;
  const to = toServer();
  const failed = await deliver(ONE, to);
  expect(failed).toMatchObject({
    status: 'failed',
    probe: { verdict: 'base' },
    error: { code: 'delivery_not_verified' },
  });
  expect(vllm.loaded.has(to.name)).toBe(false);
});

test('what was loaded by somebody else is loaded again from its own path', async () => {
  const to = toServer();
  const own = path.join(folder, 'of-the-operator');
  await cp(path.join(REFERENCE, MODEL, 'adapter_trained'), own, { recursive: true });
  vllm.loaded.set(to.name, own);
  vllm.faults.otherBase = true;
  const failed = await deliver(TWO, to);
  expect(failed).toMatchObject({ status: 'failed', replaced: null });
  expect(failed.error!.message).toMatch(/The server has loaded what it had before again\.$/);
  expect(vllm.loaded.get(to.name)).toBe(own);
});

test.each([
  ['was started without updates at run time', { withoutUpdating: true }, /VLLM_ALLOW_RUNTIME_LORA_UPDATING=True\.$/],
  ['was started without LoRA', { withoutLora: true }, /\(500\): .*Use --enable-lora to enable LoRA\.$/],
])('a server that %s is one clear error, at once', async (_, faults, message) => {
  Object.assign(vllm.faults, faults);
  const failed = await deliver(ONE, toServer());
  expect(failed).toMatchObject({ status: 'failed', attempts: 1, probe: null, error: { code: 'delivery_refused' } });
  expect(failed.error!.message).toMatch(message);
});

test('a server that refuses the key says so, and the key is in no record and no log', async () => {
  vllm.key = 'another-key';
  const failed = await deliver(ONE, toServer());
  expect(failed.error).toMatchObject({
    code: 'delivery_refused',
    message: expect.stringContaining('DELIVERY_SERVER_KEY'),
  });
  expect(JSON.stringify(failed)).not.toContain(KEY);
  expect(lines.length).toBeGreaterThan(0);
  expect(lines.join('')).not.toContain(KEY);
});

test('a server that restarts between load and probe gets the adapter in the next attempt', async () => {
  const to = toServer();
  await deliver(ONE, to);
  vllm.faults.restartsAfterLoad = 1;
  expect(await deliver(TWO, to)).toMatchObject({ status: 'delivered', attempts: 2, replaced: ONE });
  expect(vllm.loaded.get(to.name)).toBe(path.join(filesOf(to.name), TWO));
});

test.each(['/v1/models', '/v1/load_lora_adapter', '/v1/completions'])(
  'a server that hangs at %s fails after all attempts',
  async (route) => {
    await stop();
    run({ delaysMs: [1], kinds: impatient });
    vllm.faults.hangsAt = [route];
    const to = toServer();
    const failed = await deliver(ONE, to);
    expect(failed).toMatchObject({ status: 'failed', attempts: 2, error: { code: 'delivery_unreachable' } });
    expect(failed.error!.message).toContain(`${vllm.url} does not answer`);
    if (route === '/v1/completions') expect(vllm.loaded.has(to.name)).toBe(false);
  },
);

test('a server that is away is tried again, and delivered to once it is back', async () => {
  await vllm.stop();
  await stop();
  run({ delaysMs: Array.from({ length: 50 }, () => 50) });
  const waiting = await ask(ONE, toServer());
  await expect
    .poll(async () => (await inject('GET', `/deliveries/${waiting.id}`)).body)
    .toMatchObject({ status: 'queued', error: { code: 'delivery_unreachable' }, next_attempt_at: expect.any(String) });
  await vllm.start();
  expect(await ended(waiting)).toMatchObject({ status: 'delivered', error: null, next_attempt_at: null });
});

test('a delivery that a process left after the load is resumed, and knows what was there before', async () => {
  const to = toServer();
  await deliver(ONE, to);
  vllm.faults.hangsAt = ['/v1/completions'];
  const left = await ask(TWO, to);
  await expect.poll(() => vllm.loaded.get(to.name)).toBe(path.join(filesOf(to.name), TWO));
  await stop();
  expect((await inject('GET', `/deliveries/${left.id}`)).body).toMatchObject({ status: 'queued', attempts: 0 });
  vllm.faults.hangsAt = [];
  vllm.faults.otherBase = true;
  run();
  expect(await ended(left)).toMatchObject({
    status: 'failed',
    replaced: ONE,
    error: { code: 'delivery_not_verified' },
  });
  expect(vllm.loaded.get(to.name)).toBe(path.join(filesOf(to.name), ONE));
});

test('a delivery that is cancelled while it is probed restores what was there before', async () => {
  await stop();
  run({ renewMs: 10 });
  const to = toServer();
  await deliver(ONE, to);
  vllm.faults.hangsAt = ['/v1/completions'];
  const { id } = await ask(TWO, to);
  await expect.poll(() => vllm.loaded.get(to.name)).toBe(path.join(filesOf(to.name), TWO));
  expect((await inject('POST', `/deliveries/${id}/cancel`)).status).toBe(202);
  expect(await ended({ id } as Delivery)).toMatchObject({ status: 'cancelled', error: null });
  expect(vllm.loaded.get(to.name)).toBe(path.join(filesOf(to.name), ONE));
});

test('a waiting delivery is cancelled at once', async () => {
  await stop();
  const { id } = await ask(ONE, toServer());
  const { status, body } = await inject('POST', `/deliveries/${id}/cancel`);
  expect([status, body.status]).toEqual([200, 'cancelled']);
  run();
  expect((await inject('POST', `/deliveries/${id}/cancel`)).body).toEqual(body);
  expect(vllm.calls).toEqual([]);
});

test('a folder has the adapter under its name, and then the one that replaces it, with one rename', async () => {
  const to: DeliveryTarget = { kind: 'folder', name: 'served' };
  expect(await deliver(ONE, to)).toMatchObject({ status: 'delivered', probe: null, replaced: null });
  const link = path.join(folder, 'folders/served');
  expect(await readlink(link)).toBe(path.join('../folder-files/served', ONE));
  expect(await readdir(link)).toEqual(expect.arrayContaining(SCHEMAS));
  expect(await deliver(TWO, to)).toMatchObject({ status: 'delivered', replaced: ONE });
  const weights = await readFile(path.join(link, 'adapter_model.safetensors'));
  expect(weights).toEqual(await readFile(path.join(REFERENCE, MODEL, 'adapter_init/adapter_model.safetensors')));
  expect((await readdir(path.join(folder, 'folder-files/served'))).sort()).toEqual([ONE, TWO]);
  expect((await readdir(path.join(folder, 'folders'))).filter((name) => name.startsWith('.'))).toEqual([]);
  // An imported adapter has no probe, and needs none here.
  expect((await deliver(IMPORTED, to)).status).toBe('delivered');
});

test('what a process that died has staged is removed a day later', async () => {
  const staging = path.join(folder, '.staging');
  const [old, fresh] = [path.join(staging, 'old'), path.join(staging, 'fresh')];
  for (const one of [old, fresh]) await mkdir(one, { recursive: true });
  const longAgo = new Date(Date.now() - 48 * 3_600_000);
  await utimes(old, longAgo, longAgo);
  expect((await deliver(ONE, { kind: 'folder', name: 'swept' })).status).toBe('delivered');
  expect(await readdir(staging)).toEqual(['fresh']);
  await rm(fresh, { recursive: true });
});

test('a folder that no delivery has made is left as it is', async () => {
  const own = path.join(folder, 'folders/own');
  await mkdir(own, { recursive: true });
  await writeFile(path.join(own, 'file'), 'of somebody');
  const failed = await deliver(ONE, { kind: 'folder', name: 'own' });
  expect(failed).toMatchObject({ status: 'failed', error: { code: 'invalid_delivery' } });
  expect(await readFile(path.join(own, 'file'), 'utf8')).toBe('of somebody');
});

test('a delivery folder that cannot be written is tried again, and then said', async () => {
  const blocked = path.join(folder, 'folder-files', 'blocked');
  await mkdir(path.dirname(blocked), { recursive: true });
  await writeFile(blocked, 'a file where a folder must be');
  const failed = await deliver(ONE, { kind: 'folder', name: 'blocked' });
  expect(failed).toMatchObject({ status: 'failed', error: { code: 'storage_unavailable' } });
  expect(failed.error!.message).toContain('DELIVERY_FOLDER');
  await rm(blocked);
  expect(await readdir(path.join(folder, '.staging'))).toEqual([]);
});

test.each<[string, string, () => DeliveryTarget, object]>([
  [
    'an address that the settings do not list',
    ONE,
    () => toServer({ url: 'http://169.254.169.254' }),
    { code: 'invalid_delivery', param: 'url' },
  ],
  [
    'an address with a password',
    ONE,
    () => toServer({ url: vllm.url.replace('//', '//a:b@') }),
    { code: 'invalid_delivery', param: 'url' },
  ],
  [
    'an address that the settings have, with a path',
    ONE,
    () => toServer({ url: `${vllm.url}/admin` }),
    { code: 'invalid_delivery', param: 'url' },
  ],
  ['no address', ONE, () => toServer({ url: 'no address at all' }), { code: 'invalid_delivery', param: 'url' }],
  ['an imported adapter', IMPORTED, () => toServer(), { code: 'invalid_delivery' }],
  ['an adapter that does not exist', adapterId(9), () => toServer(), { code: 'adapter_not_found' }],
  ['a name with a path', ONE, () => toServer({ name: '../up' }), { code: 'invalid_request' }],
  ['a field with a secret', ONE, () => toServer({ token: 'hf_x' }), { code: 'unknown_field' }],
  ['an unknown kind', ONE, () => ({ kind: 'ftp', name: 'x' }) as never, { code: 'invalid_request' }],
])('%s is refused before anything is queued', async (_, id, to, error) => {
  await stop();
  const before = await api.jobs.deliveries.count();
  const { status, body } = await inject('POST', `/adapters/${id}/deliveries`, to());
  expect(status).toBeGreaterThanOrEqual(400);
  expect(body.error).toMatchObject(error);
  expect(await api.jobs.deliveries.count()).toBe(before);
  run();
});

test('the base model of the server is not replaced', async () => {
  const failed = await deliver(ONE, toServer({ name: VllmServer.BASE }));
  expect(failed).toMatchObject({ status: 'failed', error: { code: 'delivery_refused' } });
  expect(failed.error!.message).toContain('is the base model');
});

test('a job keeps where it is delivered to; what could not be delivered is refused before it is queued', async () => {
  const headers = { 'content-type': 'application/x-ndjson' };
  const rows = await api.app.inject({ method: 'POST', url: '/datasets', headers, payload: promptRows(8) });
  const job = { base_model: 'tiny-llama', dataset: rows.json().id };
  const post = async (url: string, payload: object) => {
    const answer = await api.app.inject({ method: 'POST', url, payload });
    return { status: answer.statusCode, body: answer.json() };
  };
  const to = [toServer(), { kind: 'folder', name: 'of-a-job' }];
  const accepted = await post('/jobs', { ...job, deliver: to });
  expect([accepted.status, accepted.body.deliver]).toEqual([202, to.map((one) => ({ layout: 'peft', ...one }))]);
  // Its adapter is published, and a worker reports that.
  const start = await api.jobs.attempts.start(accepted.body.id, 'worker');
  if (start.outcome !== 'started') throw new Error('the job did not start');
  await api.jobs.attempts.succeed(start.attempt, ONE, 3);
  const ofJob = async () =>
    (await inject('GET', `/adapters/${ONE}/deliveries`)).body.data.filter((one) => one.job === accepted.body.id);
  await expect.poll(async () => (await ofJob()).map(({ status }) => status)).toEqual(['delivered', 'delivered']);
  for (const [url, body, code, param] of [
    ['/jobs', { ...job, deliver: [toServer({ url: 'http://10.0.0.1' })] }, 'invalid_job', 'deliver.0.url'],
    ['/jobs?dry_run=true', { ...job, deliver: [toServer(), toServer()] }, 'invalid_job', 'deliver.1'],
    [
      '/sweeps',
      { job: { ...job, deliver: to }, space: { 'lora.r': { values: [2, 4] } } },
      'invalid_sweep',
      'job.deliver',
    ],
  ] as const) {
    const refused = await post(url, body);
    expect([refused.status, refused.body.error]).toMatchObject([422, { code, param }]);
  }
});

test('a sweep delivers its best adapter, once', async () => {
  const headers = { 'content-type': 'application/x-ndjson' };
  const rows = await api.app.inject({ method: 'POST', url: '/datasets', headers, payload: promptRows(8, 'sweep') });
  const job = { base_model: 'tiny-llama', dataset: rows.json().id, validation: { split: 0.25 } };
  const to = { kind: 'folder' as const, name: 'best-of-sweep' };
  const post = async (deliver: object[]) =>
    await api.app.inject({
      method: 'POST',
      url: '/sweeps',
      payload: { job, space: { 'lora.r': { values: [2, 4] } }, deliver },
    });
  const refused = await post([to, to]);
  expect([refused.statusCode, refused.json().error]).toMatchObject([
    422,
    { code: 'invalid_sweep', param: 'deliver.1' },
  ]);
  const created = await post([to]);
  expect(created.statusCode).toBe(202);
  const { id, variants, request } = created.json();
  expect(request.deliver).toEqual([to]);
  const outcome = { status: 'succeeded' as const, ranking: [1, 0], metrics: [2, 1], ended_at: 'now' };
  const best = { best: variants[1].job, adapter: ONE, metric: 1 };
  const before = (await inject('GET', `/adapters/${ONE}/deliveries`)).body.data.length;
  for (let i = 0; i < 2; i++) {
    await api.jobs.sweeps.conclude(id, outcome, { type: 'sweep-succeeded', data: best }, request.deliver);
  }
  const all = async () => (await inject('GET', `/adapters/${ONE}/deliveries`)).body.data;
  await expect
    .poll(async () => (await all())[0], { timeout: 20_000 })
    .toMatchObject({
      to,
      job: variants[1].job,
      status: 'delivered',
    });
  expect(await all()).toHaveLength(before + 1);
});

test('a service without settings delivers nothing, and says what to set', async () => {
  const other = await startRealApi({
    redisUrl: redis.url,
    prefix: `${redis.prefix}without:`,
    changes: { adapters: api.adapters },
  });
  for (const [to, setting] of [
    [toServer(), 'DELIVERY_FOLDER'],
    [{ kind: 'folder', name: 'x' }, 'DELIVERY_FOLDER'],
  ] as const) {
    const answer = await other.app.inject({ method: 'POST', url: `/adapters/${ONE}/deliveries`, payload: to });
    expect([answer.statusCode, answer.json().error.message]).toEqual([422, expect.stringContaining(setting)]);
  }
  await other.stop();
});
