import { readdir, utimes } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { accountFor, isTraining, submit, when } from './stand/accepted-jobs.js';
import { eventually } from './stand/eventually.js';
import { type FaultStand, type Part, startStand } from './stand/fault-stand.js';
import { anAdapter } from './stand/merging.js';
import { beginUpload } from './stand/slow-upload.js';

// The api and the registry are killed during their work and restarted.

const undisturbed = inject('undisturbed');
const ROWS = `${Array.from({ length: 20_000 }, (_, i) => JSON.stringify({ text: `row ${i}` })).join('\n')}\n`;
let stand: FaultStand;
let api: Part;
let registry: Part;

beforeAll(async () => {
  stand = await startStand({ modelsDir: inject('modelsDir'), machinesDir: inject('machinesDir') });
  [registry] = await Promise.all([stand.startRegistry(), stand.startWorker('one')]);
  api = await stand.startApi();
});
afterAll(() => stand?.close());

const stagingsOf = async (kind: string) =>
  (await readdir(path.join(stand.dataDir, '.staging'))).filter((name) => name.startsWith(`${kind}-`));
const age = async () => {
  const longAgo = new Date(Date.now() - 48 * 3_600_000);
  const folder = path.join(stand.dataDir, '.staging');
  for (const name of await readdir(folder, { recursive: true }))
    await utimes(path.join(folder, name), longAgo, longAgo);
};

test('the api during an upload: nothing of it is visible, and the same upload then succeeds', async () => {
  const upload = beginUpload(stand.apiUrl, ROWS);
  await eventually('the upload is being written', async () => (await stagingsOf('datasets')).length > 0);
  api.signal('SIGKILL');
  await api.exited;
  expect(await upload.status).toBeNull();
  await age();
  api = await stand.startApi();
  expect((await stand.client.listDatasets()).data).toEqual([]);
  expect(await stagingsOf('datasets')).toEqual([]);
  expect((await stand.client.uploadDataset({ text: ROWS })).rows).toBe(20_000);
});

test('the api before an uploaded dataset appears, and after', async () => {
  for (const when of ['before', 'after'] as const) {
    const text = `{"text": "killed ${when} the rename"}\n`;
    const { struck } = await stand.plan({ program: 'api/dist/main.js', call: 'rename', when, path: '/datasets/ds_' });
    const upload = beginUpload(stand.apiUrl, text);
    upload.finish();
    await struck();
    expect(await upload.status).toBeNull();
    await api.exited;
    api = await stand.startApi();
    // A repeated upload returns the same dataset.
    const first = await stand.client.uploadDataset({ text });
    expect(await stand.client.uploadDataset({ text })).toEqual(first);
  }
  await age();
  api.signal('SIGTERM');
  await api.exited;
  api = await stand.startApi();
  expect(await stagingsOf('datasets')).toEqual([]);
});

test('the api while jobs run and are followed: they finish, and a follower misses no event', async () => {
  const accepted = [await submit(stand, 'long'), await submit(stand, 'short')];
  const followed: string[] = [];
  const following = (async () => {
    for await (const event of stand.client.events(accepted[0]!.id)) followed.push(event.id);
  })();
  following.catch(() => {});
  await when(stand, accepted[0]!, 'it trains', isTraining);
  api.signal('SIGKILL');
  await api.exited;
  api = await stand.startApi();
  const jobs = await accountFor(stand, accepted, undisturbed);
  expect(jobs).toMatchObject([
    { status: 'succeeded', attempts: 1 },
    { status: 'succeeded', attempts: 1 },
  ]);
  await following;
  const all: string[] = [];
  for await (const { id } of stand.client.events(accepted[0]!.id)) all.push(id);
  expect(followed).toEqual(all);
});

test('the registry while the api forwards to it: 503 at once, and the right answer after a restart', async () => {
  const adapter = await anAdapter(stand, undisturbed);
  registry.signal('SIGKILL');
  await registry.exited;
  const answer = await fetch(`${stand.apiUrl}/adapters/${adapter}/manifest`);
  expect(answer.status).toBe(503);
  expect(await answer.json()).toMatchObject({ error: { code: 'registry_unavailable' } });
  registry = await stand.startRegistry();
  expect((await stand.client.manifest(adapter)).id).toBe(adapter);
});
