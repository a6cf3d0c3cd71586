import { fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { createClient } from '../../packages/client/src/index.js';
import { eventually } from './stand/eventually.js';
import { DATASET_TEXT, requestOf } from './stand/jobs-of-the-suite.js';
import { processesWith } from './stand/processes.js';

// The process that started the stack and reads its logs is killed. No process may remain, and the next start must find all data
// unchanged.

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-stack-killed-'));
  await cp(inject('machinesDir'), path.join(folder, 'data/machines'), { recursive: true });
});
afterAll(() => rm(folder, { recursive: true, force: true }));

function forkStack(mark: string, dataDir: string) {
  const { REDIS_URL: _, ...inherited } = process.env;
  const env = { ...inherited, FAULT_STAND: mark, DATA_DIR: dataDir, MODELS_DIR: inject('modelsDir') };
  return fork(new URL('equipment/run-stack.mjs', import.meta.url), {
    env,
    execArgv: [],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
}

async function startStack(mark: string) {
  const stack = forkStack(mark, path.join(folder, 'data'));
  const [{ apiUrl }] = (await once(stack, 'message')) as [{ apiUrl: string }];
  return { stack, client: createClient({ baseUrl: apiUrl }) };
}

test('the stack is killed while its worker starts: every process ends by itself', async () => {
  const mark = randomBytes(8).toString('hex');
  // Its worker measures the machine first, which takes a while.
  const stack = forkStack(mark, path.join(folder, 'new-data'));
  await eventually('the worker measures the machine', async () =>
    (await processesWith(`FAULT_STAND=${mark}`)).some(({ program }) => program.endsWith('trainer/probe-main.js')),
  );
  const exited = once(stack, 'exit');
  stack.kill('SIGKILL');
  await exited;
  await eventually('every process has ended', async () => (await processesWith(`FAULT_STAND=${mark}`)).length === 0);
});

test('the stack is killed during a job: every process ends by itself, and the next stack finishes the job', async () => {
  const mark = randomBytes(8).toString('hex');
  const first = await startStack(mark);
  const { id: dataset } = await first.client.uploadDataset({ text: DATASET_TEXT });
  const { id } = await first.client.createJob(requestOf('long', dataset), { idempotencyKey: mark });
  await eventually('it trains', async () => ((await first.client.getJob(id)).progress?.step ?? 0) >= 1);
  expect((await processesWith(`FAULT_STAND=${mark}`)).length).toBeGreaterThan(4);
  const exited = once(first.stack, 'exit');
  first.stack.kill('SIGKILL');
  await exited;
  await eventually('every process has ended', async () => (await processesWith(`FAULT_STAND=${mark}`)).length === 0);

  const second = await startStack(mark);
  const job = await second.client.waitForJob(id);
  expect(job.status).toBe('succeeded');
  const { files } = await second.client.manifest(job.adapter ?? '');
  expect(files.map(({ sha256 }) => sha256)).toContain(inject('undisturbed').long.weights);
  const ended = once(second.stack, 'exit');
  second.stack.kill('SIGKILL');
  await ended;
  await eventually('every process has ended', async () => (await processesWith(`FAULT_STAND=${mark}`)).length === 0);
});
