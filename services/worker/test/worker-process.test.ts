import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { access, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { AdapterManifest, type Job, type JobSpec } from '@lorasmith/contracts';
import { createJobStore, type JobStore } from '@lorasmith/queue';
import { type BundleStore, openBundleStore } from '@lorasmith/storage';
import { Redis } from 'ioredis';
import { Value } from 'typebox/value';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { checkpointGate } from '../../../test/checkpoint-gate.js';
import { makeDataFolder } from '../../../test/data-folder.js';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { writeTinyLlama } from '../../../test/tiny-llama.js';
import { putDataset } from './a-dataset.js';
import { aJobSpec } from './a-job-spec.js';

// The compiled worker with the real trainer and a model of three layers.

const PROGRAM = fileURLToPath(new URL('../dist/main.js', import.meta.url));
const SEES_A_GPU = fileURLToPath(new URL('fixtures/sees-a-gpu.mjs', import.meta.url));

let server: RealRedis;
let redis: Redis;
let store: JobStore;
let folder: string;
let adapters: BundleStore;
let workers: ChildProcess[];

beforeAll(async () => {
  await access(PROGRAM).catch(() => expect.fail('The worker is not compiled: run `pnpm build` first.'));
  server = await startRealRedis();
  redis = new Redis(server.url);
  store = createJobStore({ redis, prefix: server.prefix });
});
afterAll(async () => {
  await store.close();
  await redis.quit();
  await server.stop();
});
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-worker-process-'));
  await makeDataFolder(path.join(folder, 'data'));
  await writeTinyLlama(path.join(folder, 'models/tiny-llama'));
  adapters = await openBundleStore({ root: path.join(folder, 'data'), kind: 'adapters' });
  await putDataset(path.join(folder, 'data'));
  workers = [];
});
afterEach(async () => {
  await Promise.all(workers.map((worker) => end(worker, 'SIGKILL')));
  await rm(folder, { recursive: true, force: true });
});

function startWorkerProcess(name: string, settings: NodeJS.ProcessEnv = {}, preload?: string): ChildProcess {
  const worker = fork(PROGRAM, [], {
    execArgv: preload === undefined ? [] : ['--import', preload],
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
    env: {
      ...process.env,
      REDIS_URL: server.url,
      REDIS_PREFIX: server.prefix,
      DATA_DIR: path.join(folder, 'data'),
      MODELS_DIR: path.join(folder, 'models'),
      WORKER_NAME: name,
      JOB_LOCK_MS: '2000',
      ...settings,
    },
  });
  worker.stdout?.resume();
  workers.push(worker);
  return worker;
}

async function end(worker: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
  if (worker.exitCode !== null || worker.signalCode !== null) return worker.exitCode;
  const exited = once(worker, 'exit');
  worker.kill(signal);
  return (await exited)[0];
}

const send = async (training: Partial<JobSpec['training']>) => {
  const spec = aJobSpec('', { base_model: 'tiny-llama' });
  const { job } = await store.createJob(
    { ...spec, metadata: {}, training: { ...spec.training, max_seq_length: 64, batch_size: 2, ...training } },
    { requestHash: 'h' },
  );
  return job.id;
};

async function until(id: string, enough: (job: Job) => boolean): Promise<Job> {
  const deadline = Date.now() + 240_000;
  for (;;) {
    const job = await store.getJob(id);
    if (job !== null && enough(job)) return job;
    if (Date.now() > deadline) throw new Error(`it did not come so far: ${JSON.stringify(job)}`);
    await sleep(50);
  }
}

/** Starts a worker whose job saves a checkpoint after each step, and waits before that of step 6 until it is released. */
async function startWithHeldJob(name: string) {
  const gate = checkpointGate(path.join(folder, 'gate'));
  await gate.holdAt(6);
  const worker = startWorkerProcess(name, { NODE_OPTIONS: gate.nodeOption, ...gate.environment });
  const id = await send({ max_steps: 12, checkpoint_every_steps: 1 });
  await expect.poll(gate.isHeld).toBe(true);
  const [trainer = expect.fail('there is no trainer')] = await childrenOf(worker.pid);
  return { worker, trainer, id, release: gate.release };
}

const hasEnded = ({ status }: Job) => ['succeeded', 'failed', 'cancelled'].includes(status);
const isUnderWay = ({ progress }: Job) => (progress?.step ?? 0) > 2;

/** The child processes of a process. */
async function childrenOf(pid: number | undefined): Promise<number[]> {
  const tasks = await readdir(`/proc/${pid}/task`);
  const lists = await Promise.all(tasks.map((task) => readFile(`/proc/${pid}/task/${task}/children`, 'utf8')));
  return lists.flatMap((list) => list.split(' ').filter(Boolean).map(Number));
}

const isAlive = async (pid: number) => {
  const status = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null);
  return status !== null && !/^\d+ \(.*\) [ZX]/.test(status);
};

test('a job becomes an adapter with a complete manifest', async () => {
  startWorkerProcess('one');
  const id = await send({ epochs: 2 });
  const job = await until(id, hasEnded);
  expect(job).toMatchObject({ status: 'succeeded', error: null, progress: { step: 16, total_steps: 16 } });
  const manifest = await adapters.readJson(job.adapter ?? '', 'manifest.json');
  expect([...Value.Errors(AdapterManifest, manifest)]).toEqual([]);
});

test('invalid data fails a job at once with its code, and the trainer serves the next job', async () => {
  startWorkerProcess('one');
  const id = await send({ max_seq_length: 4 });
  expect(await until(id, hasEnded)).toMatchObject({ status: 'failed', attempts: 1, error: { code: 'row_too_long' } });
  expect((await until(await send({}), hasEnded)).status).toBe('succeeded');
});

test('a cancel stops the training', async () => {
  startWorkerProcess('one');
  // All the steps would take hours.
  const id = await send({ max_steps: 1_000_000 });
  await until(id, isUnderWay);
  await store.requestCancel(id);
  expect((await until(id, hasEnded)).status).toBe('cancelled');
});

test('on SIGTERM a worker saves a checkpoint and releases its job, and the next worker continues from there', async () => {
  const first = startWorkerProcess('first');
  const id = await send({ max_steps: 400, checkpoint_every_steps: null });
  const { progress } = await until(id, isUnderWay);
  expect(await end(first, 'SIGTERM')).toBe(0);
  expect((await store.getJob(id))?.status).toBe('queued');
  startWorkerProcess('second');
  expect(await until(id, hasEnded)).toMatchObject({ status: 'succeeded', attempts: 2 });
  const events = (await store.readEvents(id, { limit: 1000 })).data;
  const restart = events.findLastIndex(({ type }) => type === 'job-started');
  const saved = events.slice(0, restart).findLast((event) => event.type === 'checkpoint-saved');
  expect(saved?.data.step).toBeGreaterThanOrEqual(progress?.step ?? 0);
  const next = events.slice(restart).find((event) => event.type === 'step-finished');
  expect(next?.data.step).toBe((saved?.data.step ?? 0) + 1);
});

test('if a worker is killed, its trainer ends too and the next worker takes the job', async () => {
  const { worker, trainer, id } = await startWithHeldJob('first');
  expect(await isAlive(trainer)).toBe(true);
  await end(worker, 'SIGKILL');
  await expect.poll(() => isAlive(trainer)).toBe(false);
  startWorkerProcess('second');
  expect(await until(id, hasEnded)).toMatchObject({ status: 'succeeded', attempts: 2 });
});

test('a killed trainer costs an attempt but no progress', async () => {
  const { trainer, id, release } = await startWithHeldJob('one');
  process.kill(trainer, 'SIGKILL');
  await release();
  expect(await until(id, hasEnded)).toMatchObject({ status: 'succeeded', attempts: 2 });
  const steps = (await store.readEvents(id, { limit: 1000 })).data.flatMap((event) =>
    event.type === 'step-finished' ? [event.data.step] : [],
  );
  // The checkpoint of step 5 is the last.
  expect([...new Set(steps)]).toEqual(Array.from({ length: 12 }, (_, index) => index + 1));
  expect(steps).toEqual([...steps].sort((a, b) => a - b));
});

test('a worker that loses its GPU after the start ends like one without a GPU, and its jobs lose nothing', async () => {
  const [id, next] = [await send({}), await send({})];
  // The real trainer sees no GPU, here and on a machine that has one.
  const blind = startWorkerProcess(
    'blind',
    { DEVICE: 'gpu', GPU_ENGINE: 'tensorflow', CUDA_VISIBLE_DEVICES: '-1' },
    SEES_A_GPU,
  );
  let log = '';
  blind.stdout?.on('data', (chunk: Buffer) => {
    log += chunk;
  });
  expect((await once(blind, 'close'))[0]).toBe(69);
  expect(log.match(/the GPU is lost: jobs are released/g)).toHaveLength(1);
  expect(await store.getJob(id)).toMatchObject({ status: 'queued', error: null });
  expect(await store.getJob(next)).toMatchObject({ status: 'queued', error: null });
  startWorkerProcess('other');
  expect((await until(id, hasEnded)).status).toBe('succeeded');
  expect((await until(next, hasEnded)).status).toBe('succeeded');
});
