import { readdir, utimes } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest';
import { accountFor, isTraining, submit, when } from './stand/accepted-jobs.js';
import { eventually } from './stand/eventually.js';
import { type FaultStand, type Part, SHORT_LOCK_MS, type Strike, startStand } from './stand/fault-stand.js';
import { continueProcess, isAlive } from './stand/processes.js';

// A worker that dies takes its trainer with it, and its job goes to another one.

const undisturbed = inject('undisturbed');
let stand: FaultStand;
let worker: Part;
let workers = 0;

const startNext = async () => {
  worker = await stand.startWorker(`worker-${++workers}`);
};

beforeAll(async () => {
  const folders = { modelsDir: inject('modelsDir'), machinesDir: inject('machinesDir') };
  // The trainer tokenizes, not the api.
  const env = { PREFLIGHT_BUDGET_MS: '0' };
  stand = await startStand({ ...folders, jobLockMs: SHORT_LOCK_MS, env });
  await Promise.all([stand.startRegistry(), startNext()]);
  await stand.startApi();
});
beforeEach(async () => {
  if (!worker.running) await startNext();
});
afterAll(() => stand?.close());

describe('SIGKILL at an exact file operation of the worker', () => {
  test.each<[string, Omit<Strike, 'program'>]>([
    [
      'before the adapter is staged',
      { call: 'rename', when: 'before', path: '/\\.staging/adapters-[^/]*/adapter_model' },
    ],
    [
      'after the adapter is staged',
      { call: 'rename', when: 'after', path: '/\\.staging/adapters-[^/]*/adapter_model' },
    ],
    ['between its two entries in the index', { call: 'open', when: 'after', path: '/\\.index/adapters/all/' }],
    ['before the adapter appears', { call: 'rename', when: 'before', path: '/adapters/ad_' }],
    ['after the adapter appeared, before it is recorded', { call: 'rename', when: 'after', path: '/adapters/ad_' }],
  ])('%s', async (_, strike) => {
    const { struck } = await stand.plan({ program: 'worker/dist/main.js', ...strike });
    const accepted = await submit(stand, 'short');
    await struck();
    await worker.exited;
    await startNext();
    const [job] = await accountFor(stand, [accepted], undisturbed);
    expect(job).toMatchObject({ status: 'succeeded' });
    expect(job?.attempts).toBeGreaterThanOrEqual(2);
  });
});

test.each<[string, Pick<Strike, 'call' | 'when' | 'path'>]>([
  ['tokenizes', { call: 'rename', when: 'before', path: '/tokens/ds_' }],
  ['loads', { call: 'open', when: 'after', path: 'model\\.safetensors$' }],
])('SIGKILL while its trainer %s', async (_, strike) => {
  await stand.removeTokens();
  const { struck } = await stand.plan({ program: 'trainer/child-main.js', ...strike, signal: 'SIGSTOP' });
  const accepted = await submit(stand, 'short');
  await struck();
  const trainer = await stand.trainer();
  worker.signal('SIGKILL');
  await worker.exited;
  continueProcess(trainer.pid);
  await eventually('its trainer ends, too', async () => !(await isAlive(trainer.pid)));
  await startNext();
  const [job] = await accountFor(stand, [accepted], undisturbed);
  expect(job).toMatchObject({ status: 'succeeded' });
});

test('SIGKILL during training, with jobs waiting', async () => {
  const accepted = [await submit(stand, 'long'), await submit(stand, 'short'), await submit(stand, 'short')];
  await when(stand, accepted[0]!, 'it trains', isTraining);
  const trainer = await stand.trainer();
  worker.signal('SIGKILL');
  await eventually('its trainer ends, too', async () => !(await isAlive(trainer.pid)));
  await startNext();
  const jobs = await accountFor(stand, accepted, undisturbed);
  expect(jobs.map(({ status }) => status)).toEqual(['succeeded', 'succeeded', 'succeeded']);
});

test('a worker that dies at every attempt fails the job clearly in the end', async () => {
  const accepted = await submit(stand, 'long');
  for (;;) {
    const job = await when(
      stand,
      accepted,
      'it trains, or has ended',
      (found) => isTraining(found) || found.status === 'failed',
    ).catch(() => null);
    if (job === null || job.status === 'failed') break;
    const before = job.attempts;
    worker.signal('SIGKILL');
    await worker.exited;
    await startNext();
    await eventually('the next worker has it', async () => {
      const found = await stand.client.getJob(accepted.id);
      return found.status === 'failed' || found.attempts > before;
    });
    if (workers > 30) throw new Error('it is retried endlessly');
  }
  const [job] = await accountFor(stand, [accepted], undisturbed);
  expect(job).toMatchObject({ status: 'failed', error: { code: 'trainer_crashed' } });
});

test('incomplete files of killed workers are removed once they are old', async () => {
  const stagings = path.join(stand.dataDir, '.staging');
  expect((await readdir(stagings)).length).toBeGreaterThan(0);
  const longAgo = new Date(Date.now() - 48 * 3_600_000);
  for (const name of await readdir(stagings, { recursive: true }))
    await utimes(path.join(stagings, name), longAgo, longAgo);
  worker.signal('SIGTERM');
  await worker.exited;
  await startNext();
  await eventually('they are gone', async () => (await readdir(stagings)).length === 0);
});
