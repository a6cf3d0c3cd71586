import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { type AcceptedJob, accountFor, isTraining, submit, when } from './stand/accepted-jobs.js';
import { eventually } from './stand/eventually.js';
import { type FaultStand, type Part, startStand } from './stand/fault-stand.js';

// Redis is killed and restarted: requests are refused at once, training continues, and nothing in its file is lost.

const undisturbed = inject('undisturbed');
let stand: FaultStand;
let worker: Part;

beforeAll(async () => {
  stand = await startStand({ modelsDir: inject('modelsDir'), machinesDir: inject('machinesDir') });
  [, worker] = await Promise.all([stand.startRegistry(), stand.startWorker('one')]);
  await stand.startApi();
});
afterAll(() => stand?.close());

const get = async (route: string) => {
  const answer = await fetch(`${stand.apiUrl}${route}`);
  const body = (await answer.json()) as { error?: { code: string } };
  return { status: answer.status, code: body.error?.code };
};

const attemptFile = ({ id }: AcceptedJob, name: string) => path.join(stand.dataDir, 'jobs', id, 'attempt-1', name);

test('Redis is killed during training and comes back with its append-only file', async () => {
  const [first, second] = [await submit(stand, 'long'), await submit(stand, 'short')];
  await when(stand, first, 'it trains', isTraining);
  await stand.redis.kill();

  const refusals: Awaited<ReturnType<typeof get>>[] = [];
  for (const route of [`/jobs/${first.id}`, '/jobs', `/jobs/${first.id}/events`]) refusals.push(await get(route));
  expect(refusals.map(({ status, code }) => `${status} ${code}`)).toEqual(refusals.map(() => '503 redis_unavailable'));
  // Redis only starts below: that they were answered shows that none waits for it.
  const ready = await get('/ready');
  expect(ready.status).toBe(503);
  // Routes that do not need Redis still answer.
  expect((await get('/live')).status).toBe(200);
  expect((await get('/models')).status).toBe(200);

  await eventually('the training finishes without Redis', () => existsSync(attemptFile(first, 'adapter_config.json')));
  expect(await readdir(path.join(stand.dataDir, 'adapters'))).toEqual([]);
  await stand.redis.start();
  await eventually('the api is ready by itself', async () => (await get('/ready')).status === 200);
  const jobs = await accountFor(stand, [first, second], undisturbed);
  expect(jobs).toMatchObject([
    { status: 'succeeded', attempts: 1 },
    { status: 'succeeded', attempts: 1 },
  ]);
});

test('Redis is killed repeatedly while jobs arrive: accepted jobs succeed', async () => {
  const accepted: AcceptedJob[] = [];
  for (let round = 0; round < 3; round++) {
    accepted.push(await submit(stand, 'short'));
    accepted.push(await submit(stand, 'short'));
    await stand.redis.kill();
    await stand.redis.start();
    await eventually('the api is ready by itself', async () => (await get('/ready')).status === 200);
  }
  const jobs = await accountFor(stand, accepted, undisturbed);
  expect(jobs.map(({ status }) => status)).toEqual(accepted.map(() => 'succeeded'));
});

test('Redis comes back empty: its jobs are lost and answer 404, nothing of theirs is published, and new ones succeed', async () => {
  const before = (await stand.client.listAdapters({ limit: 100 })).data.map(({ id }) => id);
  const lost = await submit(stand, 'long');
  await when(stand, lost, 'it trains', isTraining);
  await stand.redis.kill();
  await stand.redis.start({ withData: false });
  await eventually('the api is ready by itself', async () => (await get('/ready')).status === 200);
  expect(await get(`/jobs/${lost.id}`)).toMatchObject({ status: 404, code: 'job_not_found' });
  await eventually('the worker drops it', () => worker.messages.includes('job lost'));

  const [job] = await accountFor(stand, [await submit(stand, 'short')], undisturbed);
  expect(job).toMatchObject({ status: 'succeeded', attempts: 1 });
  const after = (await stand.client.listAdapters({ limit: 100 })).data.map(({ id }) => id);
  expect(after.filter((id) => !before.includes(id))).toEqual([job?.adapter]);

  worker.signal('SIGTERM');
  await worker.exited;
  await stand.startWorker('two');
  await eventually('its folder is removed', () => !existsSync(path.join(stand.dataDir, 'jobs', lost.id)));
});
