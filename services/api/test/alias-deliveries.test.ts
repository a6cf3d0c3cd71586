import type { ChildProcess } from 'node:child_process';
import { mkdir, readlink } from 'node:fs/promises';
import path from 'node:path';
import type { Alias, Delivery, ErrorBody } from '@lorasmith/contracts';
import { connectRedis, createLogger } from '@lorasmith/service-kit';
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { adapterId, addBaseModel, publishReferenceAdapter } from '../../registry/test/published-adapter.js';
import { HubTokens } from '../src/access/hub-tokens.js';
import { AliasDeliveries, startFollowing } from '../src/aliases/alias-deliveries.js';
import { registryFiles } from '../src/deliveries/adapter-source.js';
import { NO_DELIVERIES } from '../src/deliveries/delivery-kind.js';
import { deliveryKinds } from '../src/deliveries/delivery-kinds.js';
import type { DeliveryRequests } from '../src/deliveries/delivery-requests.js';
import { startDeliveries } from '../src/deliveries/delivery-runner.js';
import { type RealApi, startRealApi } from './real-api.js';
import { startRegistry } from './registry-process.js';

// Deliveries that follow names: the routes and the runner, with a real Redis, a real registry and a folder.

const MODEL = 'llama-tied';
const [ONE, TWO, THREE] = [adapterId(1), adapterId(2), adapterId(3)];

let redis: RealRedis;
let connection: ReturnType<typeof connectRedis>;
let places: RealApi;
let api: RealApi;
let registry: ChildProcess;
let folder: string;
let following: AliasDeliveries;
let requests: DeliveryRequests;
let endDeliveries: () => Promise<void>;
const log = createLogger({ service: 'api', level: 'info', destination: { write: () => {} } });
let round = 0;
/** Patience with a busy machine. */
const PATIENCE_MS = 120_000;
/** The name of a test, and of the folder that follows it. */
let name: string;

beforeAll(async () => {
  redis = await startRealRedis();
  places = await startRealApi({ redisUrl: redis.url, prefix: `${redis.prefix}other:` });
  await addBaseModel(`${places.folder}/models`, MODEL);
  const started = await startRegistry(places.folder);
  registry = started.process;
  folder = path.join(places.folder, 'deliveries');
  const config = { ...NO_DELIVERIES, folder };
  connection = connectRedis({ url: redis.url, whenUnavailable: 'fail-fast', name: 'test', logger: log });
  const hubTokens = new HubTokens({ redis: connection, prefix: redis.prefix, secretsKey: null });
  const source = registryFiles(started.address);
  const { adapters, aliases } = places;
  api = await startRealApi({
    redisUrl: redis.url,
    prefix: redis.prefix,
    changes: {
      adapters,
      aliases,
      registry: started.address,
      deliveryKinds: (names) => deliveryKinds({ config, source, hubTokens, names }),
    },
  });
  for (const id of [ONE, TWO, THREE]) await publishReferenceAdapter(adapters, { id, name: MODEL });
  const store = api.jobs.deliveries;
  const { deliveryKinds: kinds } = api.parts;
  requests = api.parts.deliveries;
  following = new AliasDeliveries({ aliases, requests, store, log });
  endDeliveries = startDeliveries({ store, requests, adapters, kinds, log, delaysMs: [1], pollMs: 5 });
});
afterAll(async () => {
  await endDeliveries?.();
  registry?.kill('SIGKILL');
  await api?.stop();
  connection?.disconnect();
  await places?.stop();
  await redis?.stop();
});
beforeEach(() => {
  name = `bot-${++round}`;
});

async function call(method: 'GET' | 'PUT' | 'POST' | 'DELETE', url: string, payload?: object) {
  const answer = await api.app.inject({ method, url, ...(payload === undefined ? {} : { payload }) });
  return {
    status: answer.statusCode,
    body: (answer.body === '' ? null : answer.json()) as Alias & ErrorBody & { id: string; data: Delivery[] },
  };
}
const point = (adapter: string) => call('PUT', `/aliases/${name}`, { adapter });
const deliver = (...targets: object[]) => call('PUT', `/aliases/${name}/deliveries`, { deliver: targets });
const toFolder = () => ({ kind: 'folder', name });
const deliveries = async () => (await call('GET', `/aliases/${name}/deliveries`)).body.data;
const inFolder = async () => path.basename(await readlink(path.join(folder, 'folders', name)).catch(() => ''));
const untilIn = (adapter: string) => vi.waitFor(async () => expect(await inFolder()).toBe(adapter), PATIENCE_MS);
/** A move by a process that dies before it creates the deliveries. */
const pointAndDie = (adapter: string) =>
  places.aliases.move(
    { owner: null, name },
    {
      ifVersion: undefined,
      adapter,
      base_model: MODEL,
      moved_by: null,
      reason: null,
      rolled_back_to: null,
      guard: null,
    },
  );

test('the adapter of a name is delivered when a place begins to follow it, at each move, and at a roll back', async () => {
  await point(ONE);
  const { status, body } = await deliver(toFolder());
  expect([status, body.deliver]).toEqual([200, [toFolder()]]);
  await untilIn(ONE);
  await point(TWO);
  await untilIn(TWO);
  await vi.waitFor(async () => expect((await deliveries())[0]?.status).toBe('delivered'), PATIENCE_MS);
  expect(await deliveries()).toMatchObject([{ adapter: TWO, alias: { name, version: 2 }, job: null, replaced: ONE }]);
  await call('POST', `/aliases/${name}/rollback`, {});
  await untilIn(ONE);
  expect((await deliveries()).map(({ alias }) => alias)).toEqual([{ name, version: 3 }]);
  expect((await call('GET', `/aliases/${name}`)).body.deliver).toEqual([toFolder()]);
});

test('of two moves one after the other, the last one stays, even if the deliveries of the first are created late', async () => {
  await point(ONE);
  await deliver(toFolder());
  await untilIn(ONE);
  const first = await pointAndDie(TWO);
  await point(THREE);
  await following.follow(first);
  await untilIn(THREE);
  await expect(following.catchUp()).resolves.toBeUndefined();
  await vi.waitFor(async () => expect((await deliveries())[0]?.status).toBe('delivered'), PATIENCE_MS);
  expect(await inFolder()).toBe(THREE);
  expect(
    (await call('GET', `/adapters/${TWO}/deliveries`)).body.data.filter(({ to }) => 'name' in to && to.name === name),
  ).toEqual([]);
});

test('a move whose process died before its deliveries were created has them, once', async () => {
  await point(ONE);
  await deliver(toFolder());
  await untilIn(ONE);
  await pointAndDie(TWO);
  expect(await deliveries()).toEqual([]);
  const ends = [startFollowing(following, log), startFollowing(following, log)];
  onTestFinished(async () => void (await Promise.all(ends.map((end) => end()))));
  await untilIn(TWO);
  await following.catchUp();
  const ofTwo = (await call('GET', `/adapters/${TWO}/deliveries`)).body.data.filter(
    ({ to }) => 'name' in to && to.name === name,
  );
  expect(ofTwo.map(({ alias }) => alias)).toEqual([{ name, version: 2 }]);
});

test('a delivery that fails does not move the name back, and is in its list', async () => {
  await mkdir(path.join(folder, 'folders', name), { recursive: true });
  await point(ONE);
  await deliver(toFolder());
  await vi.waitFor(async () => expect((await deliveries())[0]?.status).toBe('failed'), PATIENCE_MS);
  expect((await deliveries())[0]!.error).toMatchObject({ code: 'invalid_delivery' });
  expect((await call('GET', `/aliases/${name}`)).body).toMatchObject({ adapter: ONE, version: 1 });
});

test('an empty list ends it, and so does the end of the name', async () => {
  await point(ONE);
  await deliver(toFolder());
  await untilIn(ONE);
  await deliver();
  await point(TWO);
  expect(await deliveries()).toEqual([]);
  await deliver(toFolder());
  await untilIn(TWO);
  expect((await call('DELETE', `/aliases/${name}`)).status).toBe(204);
  await point(THREE);
  await following.catchUp();
  expect([await deliveries(), await inFolder()]).toEqual([[], TWO]);
  // The number of its moves goes on, and the place is told apart from that of the removed name.
  await deliver(toFolder());
  await untilIn(THREE);
});

test('a place that is not allowed, two that are the same, and a name that does not exist are refused', async () => {
  await point(ONE);
  const server = { kind: 'vllm', url: 'http://127.0.0.1:9', name };
  const refused = await deliver(toFolder(), server);
  expect([refused.status, refused.body.error]).toMatchObject([
    422,
    { code: 'invalid_delivery', param: 'deliver.1.url' },
  ]);
  const twice = await deliver(toFolder(), toFolder());
  expect([twice.status, twice.body.error]).toMatchObject([422, { code: 'invalid_delivery', param: 'deliver.1' }]);
  expect((await call('GET', `/aliases/${name}`)).body.deliver).toEqual([]);
  const nine = Array.from({ length: 9 }, (_, i) => ({ kind: 'folder', name: `${name}-${i}` }));
  expect((await deliver(...nine)).status).toBe(400);
  for (const of of ['no-such-name', 'No Name', ONE]) {
    expect((await call('PUT', `/aliases/${encodeURIComponent(of)}/deliveries`, { deliver: [] })).status).toBe(404);
    expect((await call('GET', `/aliases/${encodeURIComponent(of)}/deliveries`)).status).toBe(404);
  }
});

const toName = (more: object = {}) => ({ kind: 'name', name, ...more });
const ended = async (id: string) => {
  const read = async () => (await call('GET', `/deliveries/${id}`)).body as unknown as Delivery;
  await vi.waitFor(async () => expect((await read()).ended_at).not.toBeNull(), PATIENCE_MS);
  return await read();
};

test('a delivery to a name points it at the adapter, and what follows the name is delivered', async () => {
  const first = await call('POST', `/adapters/${ONE}/deliveries`, toName());
  expect(first.status).toBe(202);
  expect(await ended(first.body.id)).toMatchObject({ status: 'delivered', to: toName(), replaced: null, probe: null });
  await deliver(toFolder());
  await untilIn(ONE);
  const second = await call('POST', `/adapters/${TWO}/deliveries`, toName({ guard: null }));
  expect(await ended(second.body.id)).toMatchObject({ status: 'delivered', replaced: ONE });
  expect((await call('GET', `/aliases/${name}`)).body).toMatchObject({ adapter: TWO, version: 2, moved_by: null });
  await untilIn(TWO);
  // Nothing is moved twice.
  const again = await call('POST', `/adapters/${TWO}/deliveries`, toName());
  expect(await ended(again.body.id)).toMatchObject({ status: 'delivered', replaced: null });
  expect((await call('GET', `/aliases/${name}`)).body.version).toBe(2);
});

test('a delivery to a name that could not be made is refused before it is queued, also that of a job', async () => {
  const guard = { dataset: `ds_${'0'.repeat(24)}`, metric: 'loss', max_worse: 0 };
  const refusals: [object, number, string, string][] = [
    [toName({ guard }), 404, 'dataset_not_found', 'guard.dataset'],
    [{ kind: 'name', name: 'tiny-llama' }, 409, 'conflict', 'name'],
    [{ kind: 'name', name: 'Not A Name' }, 400, 'invalid_request', 'name'],
  ];
  for (const [to, status, code, param] of refusals) {
    const answer = await call('POST', `/adapters/${ONE}/deliveries`, to);
    expect([answer.status, answer.body.error.code, answer.body.error.param]).toEqual([status, code, param]);
  }
  const unknown = await call('POST', `/adapters/${ONE}/deliveries`, { kind: 'ftp', name });
  expect(unknown.body.error).toMatchObject({
    param: 'kind',
    message: 'kind must be one of: vllm, folder, hub, s3, name.',
  });
  await point(ONE);
  // It would follow itself.
  expect((await deliver(toName())).status).toBe(400);
  const { id: dataset } = (await call('POST', '/datasets', { text: 'a row' })).body;
  const job = { base_model: 'tiny-llama', dataset, deliver: [{ kind: 'name', name: 'tiny-llama' }] };
  const answer = await call('POST', '/jobs', job);
  expect([answer.status, answer.body.error]).toMatchObject([422, { code: 'invalid_job', param: 'deliver.0.name' }]);
});
