import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, inject, test } from 'vitest';
import { deliveryPlace } from '../../packages/contracts/src/index.js';
import { type HubServer, startHubServer } from '../hub-server.js';
import { VllmServer } from '../vllm-server.js';
import { eventually } from './stand/eventually.js';
import { type FaultStand, type Part, startStand } from './stand/fault-stand.js';
import { DATASET_TEXT, requestOf } from './stand/jobs-of-the-suite.js';

// The api is killed while it delivers. Whatever it left, another process finishes the delivery, once.

const TOKEN = 'hf_0123456789';

let stand: FaultStand;
let api: Part;
let vllm: VllmServer;
let hub: HubServer;
let folder: string;
let adapter: string;

beforeAll(async () => {
  vllm = await new VllmServer().start();
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-deliveries-'));
  hub = await startHubServer();
  hub.pushes.accounts.set(TOKEN, { name: 'me', orgs: [], role: 'write' });
  const places = { DELIVERY_SERVERS: vllm.url, DELIVERY_FOLDER: folder };
  const env = { ...places, HF_ENDPOINT: hub.url, SECRETS_KEY: 's'.repeat(40) };
  stand = await startStand({ modelsDir: inject('modelsDir'), machinesDir: inject('machinesDir'), env });
  await Promise.all([stand.startRegistry(), stand.startWorker('one')]);
  api = await stand.startApi();
  adapter = (await stand.client.waitForJob(await submit())).adapter ?? '';
  vllm.knows(await stand.client.manifest(adapter));
});
afterAll(async () => {
  await stand?.close();
  await vllm?.stop();
  await hub?.stop();
  await rm(folder, { recursive: true, force: true });
});
beforeEach(() => {
  vllm.faults.hangsAt = [];
  vllm.calls.length = 0;
});

const kill = async () => {
  api.signal('SIGKILL');
  await api.exited;
};
const target = (name: string) => ({ kind: 'vllm' as const, url: vllm.url, name });
const submit = async (deliver?: ReturnType<typeof target>[]) => {
  const { id } = await stand.client.uploadDataset({ text: DATASET_TEXT });
  const request = requestOf('short', id);
  return (await stand.client.createJob(deliver === undefined ? request : { ...request, deliver })).id;
};
const loadsOf = (name: string) =>
  vllm.calls.filter(({ path: route, body }) => route === '/v1/load_lora_adapter' && body.lora_name === name).length;

test('after the load and before the record: the delivery is resumed, and knows what was there before', async () => {
  const { client } = stand;
  const first = await client.deliver(adapter, target('again'));
  expect(await client.waitForDelivery(first.id)).toMatchObject({ status: 'delivered', replaced: null });
  vllm.faults.hangsAt = ['/v1/completions'];
  const { id } = await client.deliver(adapter, target('again'));
  await eventually('the adapter is loaded', () => loadsOf('again') === 2);
  await kill();
  vllm.faults.hangsAt = [];
  api = await stand.startApi();
  expect(await client.waitForDelivery(id)).toMatchObject({ status: 'delivered', attempts: 2, replaced: adapter });
  expect(loadsOf('again')).toBe(3);
});

test('before copied files appear: nothing incomplete is seen, and they are copied again', async () => {
  const file = `/folder-files/copy/${adapter}$`;
  const { struck } = await stand.plan({ program: 'api/dist/main.js', call: 'rename', when: 'before', path: file });
  const { id } = await stand.client.deliver(adapter, { kind: 'folder', name: 'copy' });
  await struck();
  await api.exited;
  expect(await readdir(path.join(folder, 'folders')).catch(() => [])).toEqual([]);
  api = await stand.startApi();
  expect(await stand.client.waitForDelivery(id)).toMatchObject({ status: 'delivered', attempts: 2 });
  expect(await readdir(path.join(folder, 'folders/copy'))).toContain('adapter_model.safetensors');
});

test('between upload and commit: the hub has nothing of it, and the next attempt commits once', async () => {
  const { client } = stand;
  await client.setHubToken(TOKEN);
  hub.pushes.faults = [{ at: /\/commit\//, times: 1, how: 'hang' }];
  const { id } = await client.deliver(adapter, { kind: 'hub', repository: 'me/dates' });
  const commits = () => hub.requests.filter((one) => one.path.includes('/commit/')).length;
  await eventually('the files are uploaded', () => commits() === 1);
  await kill();
  expect([...hub.repos.get('me/dates')!.files.keys()]).toEqual(['.gitattributes']);
  const uploads = hub.requests.filter(({ method }) => method === 'PUT').length;
  api = await stand.startApi();
  expect(await client.waitForDelivery(id)).toMatchObject({ status: 'delivered', attempts: 2 });
  expect(hub.repos.get('me/dates')).toMatchObject({ title: `Deliver ${adapter}` });
  expect([...hub.repos.get('me/dates')!.files.keys()]).toEqual(
    expect.arrayContaining(['README.md', 'adapter_config.json', 'adapter_model.safetensors']),
  );
  expect(commits()).toBe(2);
  expect(hub.requests.filter(({ method }) => method === 'PUT').length).toBe(uploads);
});

test('while a job trains: each of its deliveries is made once, by the api that comes next', async () => {
  await stand.holdAt(6);
  const id = await submit([target('one'), target('two')]);
  await eventually('it trains', async () => (await stand.client.getJob(id)).status === 'running');
  await kill();
  await stand.release();
  await eventually('the worker has published', async () => {
    const published = await readdir(path.join(stand.dataDir, 'adapters'));
    return published.length > 1;
  });
  api = await stand.startApi();
  const job = await stand.client.waitForJob(id);
  const all = await eventually('the deliveries have ended', async () => {
    const found = await stand.client.deliveries(job.adapter!);
    return found.length > 0 && found.every(({ ended_at: ended }) => ended !== null) ? found : undefined;
  });
  // The same job makes the same bytes, so the server knows these, too.
  expect(all.map(({ to, job: of, status }) => [deliveryPlace(to), of, status]).sort()).toEqual([
    [deliveryPlace(target('one')), id, 'delivered'],
    [deliveryPlace(target('two')), id, 'delivered'],
  ]);
  expect([loadsOf('one'), loadsOf('two')]).toEqual([1, 1]);
});
