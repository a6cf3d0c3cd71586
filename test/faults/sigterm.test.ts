import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest';
import { accountFor, isTraining, submit, when } from './stand/accepted-jobs.js';
import { eventually } from './stand/eventually.js';
import { type FaultStand, type Part, type Strike, startStand } from './stand/fault-stand.js';
import type { JobKind } from './stand/jobs-of-the-suite.js';
import { anAdapter, mergedWeights, mergeUnderWay } from './stand/merging.js';
import { continueProcess } from './stand/processes.js';
import { beginUpload } from './stand/slow-upload.js';

// SIGTERM to each service in each phase of its work, as at every deployment.

const undisturbed = inject('undisturbed');
const ROWS = `${Array.from({ length: 20_000 }, (_, i) => JSON.stringify({ text: `row ${i}` })).join('\n')}\n`;
let stand: FaultStand;
let api: Part;
let registry: Part;
let worker: Part;
let workers = 0;

const startNext = async () => {
  worker = await stand.startWorker(`worker-${++workers}`);
};

beforeAll(async () => {
  // A busy machine must not exceed the shutdown timeout.
  const env = { SHUTDOWN_TIMEOUT_MS: '120000' };
  stand = await startStand({ modelsDir: inject('modelsDir'), machinesDir: inject('machinesDir'), env });
  [registry] = await Promise.all([stand.startRegistry(), startNext()]);
  api = await stand.startApi();
});
afterAll(() => stand?.close());

describe('the worker', () => {
  beforeEach(async () => {
    if (!worker.running) await startNext();
  });

  test.each<[string, Omit<Strike, 'program' | 'signal'>, JobKind?]>([
    ['while its trainer loads', { call: 'open', when: 'after', path: 'model\\.safetensors$' }],
    ['while its trainer writes a checkpoint', { call: 'write', when: 'after', path: '/checkpoints/', skip: 2 }],
    ['while its trainer writes the adapter', { call: 'write', when: 'after', path: '/attempt-1/adapter_model' }],
    ['while its trainer quantizes', { call: 'open', when: 'after', path: 'model\\.safetensors$' }, 'nf4'],
    ['in a checkpoint on a quantized base', { call: 'write', when: 'after', path: '/checkpoints/', skip: 2 }, 'nf4'],
  ])('%s', async (_, strike, kind = 'short') => {
    const { struck } = await stand.plan({ program: 'trainer/child-main.js', ...strike, signal: 'SIGSTOP' });
    const accepted = await submit(stand, kind);
    await struck();
    const trainer = await stand.trainer();
    worker.signal('SIGTERM');
    await eventually('it shuts down', () => worker.messages.includes('shutting down'));
    continueProcess(trainer.pid);
    expect(await worker.exited).toBe('exited with 0');
    await startNext();
    const [job] = await accountFor(stand, [accepted], undisturbed);
    expect(job?.status).toBe('succeeded');
  });

  test.each<[string, Omit<Strike, 'program' | 'signal'>]>([
    [
      'while it stages the adapter',
      { call: 'rename', when: 'after', path: '/\\.staging/adapters-[^/]*/adapter_model' },
    ],
    ['before the adapter appears', { call: 'rename', when: 'before', path: '/adapters/ad_' }],
    ['after the adapter appeared', { call: 'rename', when: 'after', path: '/adapters/ad_' }],
  ])('%s', async (_, strike) => {
    const { struck } = await stand.plan({ program: 'worker/dist/main.js', ...strike, signal: 'SIGTERM' });
    const accepted = await submit(stand, 'short');
    await struck();
    expect(await worker.exited).toBe('exited with 0');
    await startNext();
    const [job] = await accountFor(stand, [accepted], undisturbed);
    expect(job?.status).toBe('succeeded');
  });

  test('the worker gets SIGTERM during training, and again at the next attempt', async () => {
    const accepted = await submit(stand, 'long');
    for (const attempt of [1, 2]) {
      await when(stand, accepted, `attempt ${attempt} trains`, (job) => job.attempts === attempt && isTraining(job));
      worker.signal('SIGTERM');
      expect(await worker.exited).toBe('exited with 0');
      expect((await stand.client.getJob(accepted.id)).status).toBe('queued');
      await startNext();
    }
    const [job] = await accountFor(stand, [accepted], undisturbed);
    expect(job?.status).toBe('succeeded');
  });

  test('the worker gets SIGTERM without a job', async () => {
    worker.signal('SIGTERM');
    expect(await worker.exited).toBe('exited with 0');
    await startNext();
  });

  test('the worker gets SIGTERM while it starts', async () => {
    const starting = await stand.startWorker('starting', { awaitReady: false });
    await eventually('it has logged something', () => starting.messages.length > 0);
    starting.signal('SIGTERM');
    expect(await starting.exited).toBe('exited with 0');
  });

  test('the worker gets SIGTERM in the last moment of its start', async () => {
    const preload = new URL('equipment/sigterm-at-handler-change.mjs', import.meta.url);
    const starting = await stand.startWorker('started', {
      awaitReady: false,
      env: { NODE_OPTIONS: `--import=${preload}` },
    });
    expect(await starting.exited).toBe('exited with 0');
    expect(starting.messages).toContain('shutting down');
  });
});

test('the trainer alone, as from a terminal: it continues', async () => {
  const accepted = await submit(stand, 'long');
  await when(stand, accepted, 'it trains', isTraining);
  const { pid } = await stand.trainer();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.kill(pid, signal);
  const [job] = await accountFor(stand, [accepted], undisturbed);
  expect(job).toMatchObject({ status: 'succeeded', attempts: 1 });
});

describe('the api', () => {
  test('the api gets SIGTERM during an upload: it is finished, and the process then ends', async () => {
    const upload = beginUpload(stand.apiUrl, ROWS);
    const isWritten = async () =>
      (await readdir(path.join(stand.dataDir, '.staging'))).some((name) => name.startsWith('datasets-'));
    await eventually('the upload is being written', isWritten);
    api.signal('SIGTERM');
    await eventually('it shuts down', () => api.messages.includes('shutting down'));
    upload.finish();
    expect(await upload.status).toBe(201);
    expect(await api.exited).toBe('exited with 0');
    api = await stand.startApi();
    expect((await stand.client.listDatasets()).data.map(({ rows }) => rows)).toContain(20_000);
  });

  test('the api gets SIGTERM while events are followed: the follower continues with the next process', async () => {
    const accepted = await submit(stand, 'long');
    const types: string[] = [];
    const following = (async () => {
      for await (const { type } of stand.client.events(accepted.id)) types.push(type);
    })();
    following.catch(() => {});
    await when(stand, accepted, 'it trains', isTraining);
    api.signal('SIGTERM');
    expect(await api.exited).toBe('exited with 0');
    api = await stand.startApi();
    await following;
    expect(types.at(-1)).toBe('adapter-published');
    await accountFor(stand, [accepted], undisturbed);
  });
});

describe('the registry', () => {
  test('the registry gets SIGTERM during a merge: its request gets 503, nothing is left, and the next process makes the right model', async () => {
    const [one, other] = [await anAdapter(stand, undisturbed), await anAdapter(stand, undisturbed)];
    const expected = await mergedWeights(stand, one);
    const merge = await mergeUnderWay(stand, other);
    registry.signal('SIGTERM');
    expect(await registry.exited).toBe('exited with 0');
    expect(await merge.answer).toBe(503);
    expect(await readdir(path.join(stand.dataDir, 'merged'))).toEqual([one]);
    expect((await readdir(path.join(stand.dataDir, '.staging'))).filter((name) => name.startsWith('merged-'))).toEqual(
      [],
    );
    registry = await stand.startRegistry();
    expect(await mergedWeights(stand, other)).toBe(expected);
  });
});
