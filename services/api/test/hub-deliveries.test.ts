import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { AdapterManifest, Delivery, HubTarget } from '@lorasmith/contracts';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { gitSha1Of } from '../../../test/hub-content.js';
import type { PushFault } from '../../../test/hub-pushes.js';
import { type HubServer, startHubServer } from '../../../test/hub-server.js';
import { adapterId } from '../../registry/test/published-adapter.js';
import { DeliveryStand, MODEL } from './delivery-stand.js';

// Deliveries to the hub: the official client against a server with the hub's wire, a real Redis and a real registry.

const [ONE, TWO] = [adapterId(1), adapterId(2)];
const TOKEN = 'hf_writesIntoMyOrg123456';
const READS = 'hf_readsAlone1234567890';
const BASE_REPO = 'org/base-of-llama';

let hub: HubServer;
let stand: DeliveryStand;
let round = 0;

beforeAll(async () => {
  hub = await startHubServer();
  stand = await DeliveryStand.start({
    config: { hub: { endpoint: hub.url, offline: false } },
    hubTimeouts: { stallMs: 300, retryMs: 1 },
  });
  const pulled = (manifest: AdapterManifest) => {
    manifest.base_model.origin = { repo: BASE_REPO, revision: 'main', commit: 'b'.repeat(40) };
  };
  await stand.publish(ONE, { change: pulled });
  // As a library writes it that had the base model in a folder.
  const prepare = async (folder: string) => {
    const file = path.join(folder, 'adapter_config.json');
    const config = JSON.parse(await readFile(file, 'utf8'));
    await writeFile(file, JSON.stringify({ ...config, base_model_name_or_path: '/home/somebody/models/base' }));
  };
  await stand.publish(TWO, { prepare });
});
afterAll(async () => {
  await stand?.stop();
  await hub?.stop();
});
beforeEach(async () => {
  round++;
  Object.assign(hub.pushes, { faults: [], partBytes: null, forgetsFile: null });
  hub.pushes.accounts.clear();
  hub.pushes.stored.clear();
  hub.pushes.accounts.set(TOKEN, { name: 'me', orgs: ['my-org'], role: 'write' });
  hub.pushes.accounts.set(READS, { name: 'me', orgs: ['my-org'], role: 'read' });
  hub.requests.length = 0;
  await store(TOKEN);
  await stand.run();
});

const store = async (token: string) => {
  const { status, text } = await stand.ask('PUT', '/hub-token', { token });
  expect(status).toBe(200);
  expect(text).not.toContain(token);
};
const to = (changes: Partial<HubTarget> = {}): HubTarget => ({
  kind: 'hub',
  repository: `my-org/dates-${round}`,
  ...changes,
});
const deliver = (id: string, changes: Partial<HubTarget> = {}): Promise<Delivery> => stand.deliver(id, to(changes));
const repo = (name = `my-org/dates-${round}`) => hub.repos.get(name);
const commits = () => hub.requests.filter((one) => one.method === 'POST' && one.path.includes('/commit/')).length;
const namesIn = (files: ReadonlyMap<string, unknown> | undefined) => [...(files?.keys() ?? [])].sort();
const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
const fails = (at: RegExp, how: PushFault['how'], times = 1, retryAfter?: number) =>
  hub.pushes.faults.push({ at, how, times, ...(retryAfter === undefined ? {} : { retryAfter }) });

test('a private repository is made and has the files of the adapter in one commit; the manifest stays here', async () => {
  expect(await deliver(ONE)).toMatchObject({ status: 'delivered', attempts: 1, replaced: null, probe: null });
  expect(repo()).toMatchObject({ token: TOKEN, title: `Deliver ${ONE}` });
  expect(namesIn(repo()?.files)).toEqual(['.gitattributes', 'adapter_config.json', 'adapter_model.safetensors']);
  const manifest = (await stand.api.adapters.readJson(ONE, 'manifest.json')) as AdapterManifest;
  const weights = manifest.files.find(({ name }) => name === 'adapter_model.safetensors');
  expect(sha256(repo()!.files.get('adapter_model.safetensors')!.bytes)).toBe(weights?.sha256);
  const config = JSON.parse(repo()!.files.get('adapter_config.json')!.bytes.toString());
  expect([config.base_model_name_or_path, config.revision]).toEqual([BASE_REPO, 'b'.repeat(40)]);
  expect(commits()).toBe(1);
  // The token goes to the hub alone, not to the store of large files.
  for (const { server, authorization } of hub.requests) {
    expect(authorization).toBe(server === 'hub' ? `Bearer ${TOKEN}` : null);
  }
});

test('a second delivery of the same adapter makes no second commit, another adapter replaces it', async () => {
  await deliver(ONE);
  const { commit } = repo()!;
  expect(await deliver(ONE)).toMatchObject({ status: 'delivered', replaced: ONE });
  expect([commits(), repo()!.commit]).toEqual([1, commit]);
  expect(await deliver(TWO)).toMatchObject({ status: 'delivered', replaced: ONE });
  expect([commits(), repo()!.title]).toEqual([2, `Deliver ${TWO}`]);
  // Without an origin, the name of the base model here is the only one that there is. Its path is nobody's business.
  const config = JSON.parse(repo()!.files.get('adapter_config.json')!.bytes.toString());
  expect(config.base_model_name_or_path).toBe(MODEL);
});

test('the merged model replaces the adapter, with a card, in large parts, and without the path of the base model', async () => {
  await deliver(ONE);
  const license = Buffer.from('mine');
  repo()!.files.set('LICENSE', { bytes: license, large: false, digest: gitSha1Of(license) });
  hub.pushes.partBytes = 10_000;
  expect(await deliver(ONE, { merged: true })).toMatchObject({ status: 'delivered', replaced: ONE });
  const { files } = repo()!;
  expect(namesIn(files)).toEqual(expect.arrayContaining(['LICENSE', 'README.md', 'config.json', 'model.safetensors']));
  expect(files.has('adapter_config.json')).toBe(false);
  expect(files.get('README.md')!.bytes.toString()).toContain(`base_model: "${BASE_REPO}"`);
  expect(hub.requests.filter((one) => one.server === 'store' && /\/1$/.test(one.path))).not.toEqual([]);
  for (const [, { bytes }] of files) expect(bytes.includes(Buffer.from(stand.api.folder))).toBe(false);
}, 60_000);

test('a branch is made, and the main branch stays as it was', async () => {
  await deliver(ONE);
  const { commit } = repo()!;
  expect(await deliver(TWO, { revision: 'candidate' })).toMatchObject({ status: 'delivered' });
  expect(repo()!.commit).toBe(commit);
  expect(repo()!.branches.get('candidate')?.title).toBe(`Deliver ${TWO}`);
});

test.each<[string, () => Promise<void> | void, Partial<HubTarget>, RegExp]>([
  [
    'a token that the hub does not know',
    () => void hub.pushes.accounts.clear(),
    {},
    /does not accept the stored token/,
  ],
  ['a token that may only read', () => store(READS), {}, /may only read/],
  ["a repository in another's name", () => {}, { repository: 'others/x' }, /may not write to others\/x/],
])('%s is one clear error, at once, and nothing is changed', async (_, prepare, changes, message) => {
  await prepare();
  const failed = await deliver(ONE, changes);
  expect(failed).toMatchObject({ status: 'failed', attempts: 1, error: { code: 'delivery_refused' } });
  expect(failed.error!.message).toMatch(message);
  expect([repo(), hub.repos.get('others/x'), commits()]).toEqual([undefined, undefined, 0]);
});

test('a private repository of another looks as if it did not exist, and is refused', async () => {
  hub.repos.set(`my-org/dates-${round}`, { ...(await madeRepo()), token: 'hf_of-somebody-else' });
  const failed = await deliver(ONE);
  expect(failed).toMatchObject({ status: 'failed', error: { code: 'delivery_refused' } });
});
const madeRepo = async () => {
  await deliver(TWO, { repository: 'my-org/template' });
  return structuredClone(hub.repos.get('my-org/template')!);
};

test.each<[string, RegExp, PushFault['how']]>([
  ['hangs at the token', /whoami/, 'hang'],
  ['answers 500 to a preupload', /preupload/, 500],
  ['hangs at an upload', /^PUT /, 'hang'],
  ['breaks an upload off', /^PUT /, 'break'],
  ['answers 429 to a commit', /\/commit\//, 429],
  ['breaks a commit off', /\/commit\//, 'break'],
  ['commits, and loses the answer', /\/commit\//, 'late'],
])('a hub that %s is tried again, and there is one commit', async (_, at, how) => {
  fails(at, how);
  expect(await deliver(ONE)).toMatchObject({ status: 'delivered', error: null });
  expect(repo()!.title).toBe(`Deliver ${ONE}`);
  expect(repo()!.files.has('adapter_model.safetensors')).toBe(true);
});

test('a hub that stays away fails after all attempts, with what was there before', async () => {
  await deliver(ONE);
  const { commit } = repo()!;
  fails(/\/commit\//, 503, 1_000);
  const failed = await deliver(TWO);
  expect(failed).toMatchObject({ status: 'failed', attempts: 3, error: { code: 'delivery_unreachable' } });
  expect(failed.error!.message).toBe(`${hub.url} answers 503.`);
  expect(repo()!.commit).toBe(commit);
}, 60_000);

test('what the hub asks to wait for is waited for, within a bound', async () => {
  fails(/preupload/, 429, 5, 1);
  await stand.run({ delaysMs: [1] });
  const began = Date.now();
  expect(await deliver(ONE)).toMatchObject({ status: 'delivered', attempts: 2 });
  expect(Date.now() - began).toBeGreaterThan(4_000);
}, 60_000);

test('a commit of somebody else in between is not overwritten unseen: the next attempt is after it', async () => {
  await deliver(ONE);
  fails(/\/commit\//, 412);
  expect(await deliver(TWO)).toMatchObject({ status: 'delivered', attempts: 2, replaced: ONE });
});

test('a repository that does not answer with what was committed is not delivered', async () => {
  hub.pushes.forgetsFile = 'adapter_config.json';
  const failed = await deliver(ONE);
  expect(failed).toMatchObject({ status: 'failed', attempts: 1, error: { code: 'delivery_not_verified' } });
});

test('a process that ends between upload and commit leaves nothing half done, and the next one goes on', async () => {
  fails(/\/commit\//, 'hang', 1_000);
  const { body } = await stand.ask('POST', `/adapters/${ONE}/deliveries`, to());
  await expect.poll(() => hub.requests.some((one) => one.path.includes('/commit/')), { timeout: 20_000 }).toBe(true);
  await stand.pauseRunner();
  expect(namesIn(repo()?.files)).toEqual(['.gitattributes']);
  hub.pushes.faults = [];
  hub.requests.length = 0;
  await stand.run();
  expect(await stand.ended(body.id)).toMatchObject({ status: 'delivered' });
  // The large file was there already.
  expect(hub.requests.filter(({ method }) => method === 'PUT')).toEqual([]);
});

test('a delivery that is cancelled while it is uploaded changes nothing', async () => {
  await stand.run({ renewMs: 10 });
  fails(/^PUT /, 'hang', 1_000);
  const { body } = await stand.ask('POST', `/adapters/${ONE}/deliveries`, to());
  await expect.poll(() => hub.requests.some(({ method }) => method === 'PUT'), { timeout: 20_000 }).toBe(true);
  await stand.ask('POST', `/deliveries/${body.id}/cancel`);
  expect(await stand.ended(body.id)).toMatchObject({ status: 'cancelled', error: null });
  expect(namesIn(repo()?.files)).toEqual(['.gitattributes']);
});

test('the events of a delivery say what became of it, and the metric counts its end', async () => {
  fails(/preupload/, 403);
  const failed = await deliver(ONE);
  const { body } = await stand.ask('GET', `/deliveries/${failed.id}/events`, undefined, { accept: 'application/json' });
  expect(body.data.map((event) => (event as unknown as { type: string }).type)).toEqual([
    'delivery-queued',
    'delivery-started',
    'delivery-failed',
  ]);
  const stream = await stand.api.app.inject(`/deliveries/${failed.id}/events`);
  expect(stream.headers['content-type']).toContain('text/event-stream');
  expect(stream.body).toMatch(/event: delivery-queued\n.*event: delivery-failed\ndata: .*"delivery_refused"/s);
  const metrics = (await stand.api.app.inject('/metrics')).body;
  expect(metrics).toMatch(/lorasmith_deliveries_ended_total\{kind="hub",status="failed"\} [1-9]/);
});

test('without a token a delivery is refused before it is queued; the token is in no answer, record or log', async () => {
  await deliver(ONE);
  expect((await stand.ask('GET', '/hub-token')).body).toEqual({ object: 'hub_token', stored_at: expect.any(String) });
  expect((await stand.ask('DELETE', '/hub-token')).status).toBe(204);
  expect((await stand.ask('GET', '/hub-token')).body).toMatchObject({ stored_at: null });
  const { status, body } = await stand.ask('POST', `/adapters/${ONE}/deliveries`, to());
  expect([status, body.error]).toMatchObject([422, { code: 'invalid_delivery', param: 'kind' }]);
  expect(stand.lines.length).toBeGreaterThan(10);
  expect(stand.lines.join('')).not.toContain(TOKEN);
  for (const one of (await stand.ask('GET', `/adapters/${ONE}/deliveries`)).body.data) {
    expect(JSON.stringify(one)).not.toContain(TOKEN);
  }
});
