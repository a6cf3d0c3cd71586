import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { access, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { AdapterManifest, Job, JobSpec } from '@lorasmith/contracts';
import { createJobStore, type JobStore } from '@lorasmith/queue';
import { type BundleStore, openBundleStore } from '@lorasmith/storage';
import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { writeTinyLlama } from '../../../test/tiny-llama.js';
import { putDataset } from './a-dataset.js';
import { aJobSpec } from './a-job-spec.js';

// Part of the fault suite. The compiled worker on the emulated GPU: what it says and does when it trains, and when the card or its driver fails.

const PROGRAM = fileURLToPath(new URL('../dist/main.js', import.meta.url));
const EMULATED = fileURLToPath(new URL('../../../packages/tensor/native/build/emulated', import.meta.url));

let server: RealRedis;
let redis: Redis;
let store: JobStore;
/** One for all tests: the self-test and the measurements of the first worker are remembered in it. */
let folder: string;
let adapters: BundleStore;
let workers: ChildProcess[] = [];

beforeAll(async () => {
  await access(PROGRAM).catch(() => expect.fail('The worker is not compiled: run `pnpm build` first.'));
  await access(EMULATED).catch(() =>
    expect.fail('The emulated GPU is not compiled: `npm run test:faults` compiles it.'),
  );
  server = await startRealRedis();
  redis = new Redis(server.url);
  store = createJobStore({ redis, prefix: server.prefix });
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-emulated-'));
  await writeTinyLlama(path.join(folder, 'models/tiny-llama'));
  adapters = await openBundleStore({ root: path.join(folder, 'data'), kind: 'adapters' });
  await putDataset(path.join(folder, 'data'));
});
afterEach(async () => {
  await Promise.all(workers.map((worker) => end(worker)));
  workers = [];
});
afterAll(async () => {
  // Not there if the emulated GPU is not compiled.
  await store?.close();
  await redis?.quit();
  await server?.stop();
  if (folder !== undefined) await rm(folder, { recursive: true, force: true });
});

interface WorkerProcess {
  child: ChildProcess;
  /** The output so far. */
  written: { stdout: string; stderr: string };
  port: number;
}

async function startWorkerProcess(name: string, settings: NodeJS.ProcessEnv = {}): Promise<WorkerProcess> {
  const port = await freePort();
  const child = fork(PROGRAM, [], {
    execArgv: [],
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    env: {
      ...process.env,
      REDIS_URL: server.url,
      REDIS_PREFIX: server.prefix,
      DATA_DIR: path.join(folder, 'data'),
      MODELS_DIR: path.join(folder, 'models'),
      WORKER_NAME: name,
      WORKER_HEALTH_PORT: String(port),
      JOB_LOCK_MS: '2000',
      DEVICE: 'gpu',
      GPU_SELF_TEST: 'small',
      CUDA_LIBRARY_DIR: EMULATED,
      ...settings,
    },
  });
  const written = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream]?.on('data', (chunk: Buffer) => {
      written[stream] += chunk;
    });
  }
  workers.push(child);
  return { child, written, port };
}

async function end(worker: ChildProcess): Promise<void> {
  if (worker.exitCode !== null || worker.signalCode !== null) return;
  const exited = once(worker, 'exit');
  worker.kill('SIGKILL');
  await exited;
}

async function freePort(): Promise<number> {
  const listening = createServer().listen(0, '127.0.0.1');
  await once(listening, 'listening');
  const { port } = listening.address() as { port: number };
  listening.close();
  await once(listening, 'close');
  return port;
}

const get = async ({ port }: WorkerProcess, route: string) => {
  const answer = await fetch(`http://127.0.0.1:${port}${route}`).catch(() => null);
  return answer === null ? { status: 0, text: '' } : { status: answer.status, text: await answer.text() };
};

/** The messages of /ready until it is ready, or its process has ended. */
async function readyMessages(worker: WorkerProcess): Promise<string[]> {
  const messages = new Set<string>();
  while (worker.child.exitCode === null) {
    const { status, text } = await get(worker, '/ready');
    if (status === 200) break;
    if (status === 503) messages.add(JSON.parse(text).error.message);
    await sleep(50);
  }
  return [...messages];
}

const send = async (training: Partial<JobSpec['training']> = {}) => {
  const spec = aJobSpec('', { base_model: 'tiny-llama' });
  const changed = { ...spec.training, max_seq_length: 64, batch_size: 4, precision: 'float32' as const, ...training };
  const { job } = await store.createJob({ ...spec, metadata: {}, training: changed }, { requestHash: 'h' });
  return job.id;
};

async function ended(id: string): Promise<Job> {
  const deadline = Date.now() + 600_000;
  for (;;) {
    const job = await store.getJob(id);
    if (job !== null && ['succeeded', 'failed', 'cancelled'].includes(job.status)) return job;
    if (Date.now() > deadline) throw new Error(`it did not end: ${JSON.stringify(job)}`);
    await sleep(50);
  }
}

async function manifestOf({ adapter }: Job): Promise<AdapterManifest> {
  return (await adapters.readJson(adapter ?? '', 'manifest.json')) as AdapterManifest;
}

const resultOf = ({ origin }: AdapterManifest) =>
  origin.kind === 'trained' ? origin.result : expect.fail(origin.kind);

test('a worker compares its engine with the CPU, trains as the CPU does, and says with what', async () => {
  const worker = await startWorkerProcess('gpu-1');
  const messages = (await readyMessages(worker)).join('\n');
  expect(messages).toContain('it is comparing its engine on the GPU with the CPU');
  const onGpu = await manifestOf(await ended(await send()));
  expect(onGpu.versions).toMatchObject({ kernels: 'cuda' });
  // Of the card: the process itself takes some hundred MB.
  expect(resultOf(onGpu).peak_memory_bytes).toBeGreaterThan(100_000);
  expect(resultOf(onGpu).peak_memory_bytes).toBeLessThan(50_000_000);
  expect(worker.written.stdout.match(/the CUDA engine passed its self-test on this GPU"/g)).toHaveLength(1);
  const metrics = (await get(worker, '/metrics')).text;
  expect(metrics).toMatch(
    /lorasmith_engine_info\{engine="cuda",card="Emulated GPU",compute_capability="9.0",driver="[^"]+",kernels="fused"\} 1/,
  );
  expect(metrics).toContain('lorasmith_self_test_cases{result="wrong"} 0');
  const [machine] = await store.machines.list();
  expect(machine?.engine).toMatchObject({
    kind: 'cuda',
    card: { name: 'Emulated GPU' },
    self_test: { distrust: null },
  });
  await end(worker.child);

  await startWorkerProcess('cpu-1', { DEVICE: 'cpu' });
  const onCpu = await manifestOf(await ended(await send()));
  for (const [step, loss] of resultOf(onCpu).losses.entries()) {
    expect(Math.abs(resultOf(onGpu).losses[step]! - loss)).toBeLessThan(1e-4);
  }
});

test('the next worker remembers the test; a second one on the same card is refused by name', async () => {
  const first = await startWorkerProcess('first');
  expect((await readyMessages(first)).join('\n')).not.toContain('comparing its engine');
  expect(first.written.stdout).toContain('the CUDA engine passed its self-test on this GPU before');
  const second = await startWorkerProcess('second');
  const messages = (await readyMessages(second)).join('\n');
  expect(second.child.exitCode).toBe(69);
  expect(second.written.stderr).toMatch(/^Worker first already trains on the GPU GPU-/m);
  expect(messages).toContain('Worker first already trains');
});

test.each([
  [
    'a driver that is too old',
    { EMULATED_GPU_DRIVER_VERSION: '11080' },
    /driver: it is too old: it supports CUDA 11\.8/,
  ],
  ['a card without kernels', { EMULATED_GPU_CAPABILITY: '7.5' }, /card: Emulated GPU has compute capability 7\.5/],
  ['no card', { EMULATED_GPU_COUNT: '0' }, /device: |driver: CUDA_ERROR_NO_DEVICE \(100\)/],
  [
    'nonsense in CUDA_VISIBLE_DEVICES',
    { CUDA_VISIBLE_DEVICES: 'nonsense' },
    /CUDA_VISIBLE_DEVICES="nonsense" names no GPU\. Set it to the number or the UUID of one: 0 \(Emulated GPU, GPU-/,
  ],
])('%s is named on standard error and in /ready, and ends it with 69', async (_, settings, fault) => {
  const dataDir = await mkdtemp(path.join(folder, 'refused-'));
  const worker = await startWorkerProcess('refused', { DATA_DIR: dataDir, ...settings });
  const messages = (await readyMessages(worker)).join('\n');
  expect(worker.child.exitCode).toBe(69);
  expect(worker.written.stderr).toMatch(fault);
  expect(messages).toMatch(fault);
});

test('products that are wrong: the engine is not trusted, nothing is trained, and the message says what is wrong', async () => {
  // Without the passed test of the same card.
  const dataDir = path.join(folder, 'other-data');
  const worker = await startWorkerProcess('wrong', { EMULATED_GPU_BREAK: 'cublasLtMatmul:wrong', DATA_DIR: dataDir });
  const messages = (await readyMessages(worker)).join('\n');
  expect(worker.child.exitCode).toBe(69);
  expect(worker.written.stderr).toMatch(
    /^The engine cannot be trusted on this GPU\.\n {2}self-test: wrong on this card: matMul/m,
  );
  expect(messages).toContain('self-test: wrong on this card: matMul');
  // Restarted by a supervisor, it says the same, without a test.
  const again = await startWorkerProcess('wrong', { EMULATED_GPU_BREAK: 'cublasLtMatmul:wrong', DATA_DIR: dataDir });
  expect((await readyMessages(again)).join('\n')).not.toContain('comparing its engine');
  expect(again.child.exitCode).toBe(69);
  const faultIn = ({ written }: WorkerProcess) => /^ {2}self-test: .*$/m.exec(written.stderr)?.[0];
  expect(faultIn(again)).toBe(faultIn(worker));
  expect(faultIn(again)).toMatch(/To test it at once, delete .*self-test-[0-9a-f]+\.json\.$/);
  // The card is well, and the file deleted as the message says.
  const file = /delete (.*\.json)\.$/.exec(faultIn(again)!)![1]!;
  await rm(file);
  const mended = await startWorkerProcess('mended', { DATA_DIR: dataDir });
  expect((await readyMessages(mended)).join('\n')).toContain('comparing its engine');
  expect((await get(mended, '/ready')).status).toBe(200);
});

test('with plain ops only a worker trains as the CPU does, and says so at each start', async () => {
  const dataDir = path.join(folder, 'plain-data');
  await putDataset(dataDir);
  const settings = { EMULATED_GPU_BREAK: 'RmsNormFloat32:skip:CrossEntropyFloat32', DATA_DIR: dataDir };
  const worker = await startWorkerProcess('plain', settings);
  const id = await send();
  const job = await ended(id);
  expect(job).toMatchObject({ status: 'succeeded' });
  const plainAdapters = await openBundleStore({ root: dataDir, kind: 'adapters' });
  const manifest = (await plainAdapters.readJson(job.adapter ?? '', 'manifest.json')) as AdapterManifest;
  expect(manifest.versions).toMatchObject({ kernels: 'tensorflow' });
  const machine = (await store.machines.list()).find((one) => one.worker === 'plain');
  expect(machine).toMatchObject({ kernels: 'tensorflow', engine: { kind: 'cuda', self_test: { kernels: 'raw' } } });
  expect((await get(worker, '/metrics')).text).toMatch(/lorasmith_engine_info\{engine="cuda",.*kernels="raw"\} 1/);
  expect(worker.written.stdout).toMatch(/"level":"warn",.*computes with plain ops only/);
  await end(worker.child);

  await startWorkerProcess('cpu-2', { DEVICE: 'cpu' });
  const onCpu = await manifestOf(await ended(await send()));
  for (const [step, loss] of resultOf(onCpu).losses.entries()) {
    expect(Math.abs(resultOf(manifest).losses[step]! - loss)).toBeLessThan(1e-4);
  }
});

test('a card that is lost in a step costs the job no attempt, and ends the worker', async () => {
  const id = await send({ max_steps: 60, checkpoint_every_steps: 2 });
  const lost = path.join(folder, 'lost');
  const worker = await startWorkerProcess('losing', { EMULATED_GPU_FAULT: '1500:719', EMULATED_GPU_LOST_FILE: lost });
  await once(worker.child, 'exit');
  expect(worker.child.exitCode).toBe(69);
  expect(worker.written.stdout).toMatch(/"msg":"the GPU is lost: jobs are released/);
  expect(worker.written.stdout).toMatch(/"fault":"[^"]*CUDA_ERROR_NO_DEVICE \(100\)/);
  expect(await store.getJob(id)).toMatchObject({ status: 'queued', error: null });
  // The next worker on a card takes it up where it was.
  await rm(lost);
  await startWorkerProcess('next');
  expect(await ended(id)).toMatchObject({ status: 'succeeded' });
});

test('of two workers with a card each, a lost card ends its own, and the other one trains on', async () => {
  const onCard = (card: number, settings: NodeJS.ProcessEnv = {}) => ({
    EMULATED_GPU_COUNT: '2',
    CUDA_VISIBLE_DEVICES: String(card),
    JOBS_AT_ONCE: '1',
    ...settings,
  });
  // So that it is lost in a step: the self-test of the second card and its measurements are remembered.
  const well = await startWorkerProcess('losing', onCard(1));
  expect((await readyMessages(well)).join('\n')).toContain('comparing its engine');
  await end(well.child);

  const whole = await startWorkerProcess('whole', onCard(0));
  // It takes the only place of its worker for as long as the test needs.
  const long = await send({ max_steps: 1_000_000, checkpoint_every_steps: null });
  while ((await store.getJob(long))?.status !== 'running') await sleep(50);
  const lost = path.join(folder, 'lost-of-two');
  const fault = { EMULATED_GPU_FAULT: '1500:719', EMULATED_GPU_LOST_FILE: lost };
  const moved = await send({ max_steps: 60, checkpoint_every_steps: 2 });
  const losing = await startWorkerProcess('losing', onCard(1, fault));
  await once(losing.child, 'exit');
  expect(losing.child.exitCode).toBe(69);
  expect(losing.written.stdout).toMatch(/"msg":"the GPU is lost: jobs are released/);
  const machines = (await store.machines.list()).filter(({ worker }) => ['whole', 'losing'].includes(worker));
  expect(new Set(machines.map(({ engine }) => engine.card?.uuid)).size).toBe(2);
  expect(await store.getJob(moved)).toMatchObject({ status: 'queued', error: null });
  expect(await store.getJob(long)).toMatchObject({ status: 'running', attempts: 1 });
  expect((await get(whole, '/ready')).status).toBe(200);

  await store.requestCancel(long);
  expect(await ended(moved)).toMatchObject({ status: 'succeeded' });
  const { data: events } = await store.readEvents(moved, { limit: 1_000 });
  const starts = events.flatMap((event) => (event.type === 'job-started' ? [event.data.worker] : []));
  expect(starts).toEqual(['losing', 'whole']);
});

test('an error of the driver on a card that is well is a crash of the trainer, and the worker goes on', async () => {
  const worker = await startWorkerProcess('crashing', { EMULATED_GPU_FAULT: '1500:700' });
  const job = await ended(await send({ max_steps: 60, checkpoint_every_steps: null }));
  expect(job).toMatchObject({ status: 'failed', attempts: 3, error: { code: 'trainer_crashed' } });
  expect(job.error?.message).toMatch(
    /^The GPU stopped computing for the trainer: .*CUDA_ERROR_ILLEGAL_ADDRESS \(700\)/,
  );
  expect((await get(worker, '/ready')).status).toBe(200);
});
