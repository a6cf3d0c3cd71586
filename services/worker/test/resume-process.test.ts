import { type ChildProcess, fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { access, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import {
  type AdapterManifest,
  type Checkpoint,
  type Job,
  type JobEvent,
  specOf,
  type TrainedOrigin,
} from '@lorasmith/contracts';
import { createJobStore, type JobStore } from '@lorasmith/queue';
import { type BundleStore, openBundleStore } from '@lorasmith/storage';
import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { type CheckpointGate, checkpointGate } from '../../../test/checkpoint-gate.js';
import { makeDataFolder } from '../../../test/data-folder.js';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { writeTinyLlama } from '../../../test/tiny-llama.js';
import { HAS_ALL_CASES } from '../../../test/usual-cases.js';
import { putDataset } from './a-dataset.js';
import { aJobSpec } from './a-job-spec.js';

// However the job is interrupted, the compiled worker with the real trainer makes the same adapter.

const PROGRAM = fileURLToPath(new URL('../dist/main.js', import.meta.url));
const CHECKPOINT_EVERY_STEPS = 25;
/** There is one checkpoint before it, and many steps after it. */
const HELD_STEP = 2 * CHECKPOINT_EVERY_STEPS;
/** Enough for a busy machine. */
const PATIENCE_MS = 240_000;

let server: RealRedis;
let redis: Redis;
let store: JobStore;
let folder: string;
let adapters: BundleStore;
let worker: ChildProcess;
let uninterrupted: Job;
let gate: CheckpointGate;

beforeAll(async () => {
  await access(PROGRAM).catch(() => expect.fail('The worker is not compiled: run `pnpm build` first.'));
  server = await startRealRedis();
  redis = new Redis(server.url);
  store = createJobStore({ redis, prefix: server.prefix });
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-resume-process-'));
  await makeDataFolder(path.join(folder, 'data'));
  await writeTinyLlama(path.join(folder, 'models/tiny-llama'));
  adapters = await openBundleStore({ root: path.join(folder, 'data'), kind: 'adapters' });
  await putDataset(path.join(folder, 'data'));
  gate = checkpointGate(path.join(folder, 'gate'));
  worker = startWorkerProcess();
  uninterrupted = await until(await send(), hasEnded);
  expect(uninterrupted).toMatchObject({ status: 'succeeded', error: null });
}, PATIENCE_MS);
afterEach(async () => {
  await gate.release();
  if (worker.exitCode !== null || worker.signalCode !== null) worker = startWorkerProcess();
});
afterAll(async () => {
  await end('SIGKILL');
  await rm(folder, { recursive: true, force: true });
  await store.close();
  await redis.quit();
  await server.stop();
});

function startWorkerProcess(): ChildProcess {
  return fork(PROGRAM, [], {
    execArgv: [],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    env: {
      ...process.env,
      REDIS_URL: server.url,
      REDIS_PREFIX: server.prefix,
      DATA_DIR: path.join(folder, 'data'),
      MODELS_DIR: path.join(folder, 'models'),
      WORKER_NAME: 'one',
      // A busy machine may stall a worker for seconds; the test that kills it waits this long for the next to take its job.
      JOB_LOCK_MS: '8000',
      NODE_OPTIONS: gate.nodeOption,
      ...gate.environment,
    },
  });
}

async function end(signal: NodeJS.Signals): Promise<number | null> {
  const exited = once(worker, 'exit');
  worker.kill(signal);
  return (await exited)[0];
}

/** Everything that a resume must preserve: dropout, accumulation, LoRA+, a cosine schedule, evaluations, the best state, quantized weights. */
async function send(): Promise<string> {
  const { lora, training, ...spec } = aJobSpec('', { base_model: 'tiny-llama' });
  const { job } = await store.createJob(
    {
      ...spec,
      metadata: {},
      validation: { split: 0.25, dataset: null },
      lora: { ...lora, dropout: 0.1, lora_plus_ratio: 4 },
      training: {
        ...training,
        max_steps: 240,
        max_seq_length: 64,
        batch_size: 2,
        gradient_accumulation_steps: 2,
        learning_rate: 1e-3,
        lr_scheduler: 'cosine',
        base_quantization: 'nf4',
        eval_every_steps: 30,
        publish: 'best',
        checkpoint_every_steps: CHECKPOINT_EVERY_STEPS,
      },
    },
    { requestHash: 'h' },
  );
  return job.id;
}

/** Sends a job that stays at a step until it is asked to stop or to pause, or the gate is released. */
async function sendHeld(): Promise<string> {
  await gate.holdAt(HELD_STEP);
  const id = await send();
  await expect.poll(gate.isHeld, { timeout: PATIENCE_MS }).toBe(true);
  return id;
}

async function until(id: string, enough: (job: Job) => boolean): Promise<Job> {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const job = await store.getJob(id);
    if (job !== null && enough(job)) return job;
    if (job !== null && hasEnded(job)) throw new Error(`it has ended: ${JSON.stringify({ ...job, report: null })}`);
    if (Date.now() > deadline) throw new Error(`it did not come so far: ${JSON.stringify(job)}`);
    await sleep(20);
  }
}

const hasEnded = ({ status }: Job) => ['succeeded', 'failed', 'cancelled'].includes(status);
const eventsOf = async (id: string): Promise<JobEvent[]> => (await store.readEvents(id, { limit: 1000 })).data;
const manifestOf = async (id: string) => (await adapters.readJson(id, 'manifest.json')) as AdapterManifest;
const originOf = async (id: string | null) => (await manifestOf(id ?? '')).origin as TrainedOrigin;

async function weightsOf(adapter: string | null): Promise<string> {
  const bytes = await readFile(path.join(folder, 'data/adapters', adapter ?? 'none', 'adapter_model.safetensors'));
  return createHash('sha256').update(bytes).digest('hex');
}

async function trainerOf(pid: number | undefined): Promise<number> {
  const tasks = await readdir(`/proc/${pid}/task`);
  const lists = await Promise.all(tasks.map((task) => readFile(`/proc/${pid}/task/${task}/children`, 'utf8')));
  const [trainer] = lists.flatMap((list) => list.split(' ').filter(Boolean).map(Number));
  return trainer ?? 0;
}

async function isAsUninterrupted(job: Job): Promise<void> {
  expect(job).toMatchObject({ status: 'succeeded', error: null });
  expect(await weightsOf(job.adapter)).toBe(await weightsOf(uninterrupted.adapter));
  const [mine, whole] = await Promise.all([job.adapter, uninterrupted.adapter].map(originOf));
  for (const field of ['steps', 'adapter_step', 'tokens', 'evaluation_before', 'evaluation_after'] as const) {
    expect(mine!.result[field], field).toEqual(whole!.result[field]);
  }
  expect(mine!.report.precision.chosen).toBe(whole!.report.precision.chosen);
}

/** Checks that at most the steps between two checkpoints are repeated. */
async function continuesFromCheckpoints(id: string): Promise<void> {
  const events = await eventsOf(id);
  const loaded = events.flatMap((event) => (event.type === 'checkpoint-loaded' ? [event.data.step] : []));
  expect(loaded.length).toBeGreaterThan(0);
  for (const event of events.keys()) {
    const { type, data } = events[event]!;
    if (type !== 'checkpoint-loaded') continue;
    const before = events.slice(0, event).flatMap((one) => (one.type === 'step-finished' ? [one.data.step] : []));
    expect(Math.max(0, ...before) - data.step).toBeLessThanOrEqual(CHECKPOINT_EVERY_STEPS);
  }
}

/** The files that a job has left besides its log for TensorBoard, which it has once it has trained a step. */
const leftIn = async (folder: string) => (await readdir(folder)).filter((name) => name !== 'tensorboard');

test(
  'the trainer killed with SIGKILL',
  async () => {
    const id = await sendHeld();
    process.kill(await trainerOf(worker.pid), 'SIGKILL');
    await gate.release();
    await isAsUninterrupted(await until(id, hasEnded));
    await continuesFromCheckpoints(id);
  },
  PATIENCE_MS,
);

test.runIf(HAS_ALL_CASES)(
  'the worker stopped with SIGTERM, and another one started',
  async () => {
    const id = await sendHeld();
    expect(await end('SIGTERM')).toBe(0);
    await gate.release();
    worker = startWorkerProcess();
    await isAsUninterrupted(await until(id, hasEnded));
    await continuesFromCheckpoints(id);
  },
  PATIENCE_MS,
);

test(
  'cancelled and resumed; meanwhile its last checkpoint is published, and later the best',
  async () => {
    const id = await sendHeld();
    await store.requestCancel(id);
    await until(id, ({ status }) => status === 'cancelled');
    await gate.release();
    const [last] = (await store.checkpoints.list(id)) as [Checkpoint];
    expect(last).toMatchObject({ job: id, is_last: true });
    const published = await until(await publish(id, last.step), hasEnded);
    expect(published).toMatchObject({ status: 'succeeded', error: null });
    const manifest = await manifestOf(published.adapter ?? '');
    expect(manifest).toMatchObject({
      id: published.adapter,
      origin: {
        kind: 'published-checkpoint',
        job: id,
        step: last.step,
        result: { steps: last.step, adapter_step: last.step },
        checks: expect.anything(),
      },
    });

    await store.resumeJob(id);
    const job = await until(id, ({ status }) => status === 'succeeded' || status === 'failed');
    await isAsUninterrupted(job);
    await continuesFromCheckpoints(id);
    const types = (await eventsOf(id)).map(({ type }) => type);
    expect(types.indexOf('job-resumed')).toBe(types.indexOf('job-cancelled') + 1);
    expect(types.at(-1)).toBe('adapter-published');

    const best = (await store.checkpoints.list(id)).find((one) => one.is_best);
    expect(best?.step).toBe((await originOf(job.adapter)).result.adapter_step);
    const again = await until(await publish(id, best?.step ?? -1), hasEnded);
    expect(await weightsOf(again.adapter)).toBe(await weightsOf(job.adapter));
    expect(await leftIn(path.join(folder, 'data/jobs', id))).toEqual(['checkpoints']);
  },
  PATIENCE_MS,
);

test.runIf(HAS_ALL_CASES)(
  'paused and resumed',
  async () => {
    const id = await sendHeld();
    await store.requestPause(id);
    const paused = await until(id, ({ status }) => status === 'paused');
    await gate.release();
    const [last] = (await store.checkpoints.list(id)) as [Checkpoint];
    expect(last.step).toBe(paused.progress?.step);
    // Nothing of it is left in the worker, which takes the next job.
    await until(await publish(uninterrupted.id, uninterrupted.report!.steps.total), hasEnded);
    expect(await readdir(path.join(folder, 'data/jobs', id))).toEqual(['checkpoints', 'tensorboard']);
    expect(await store.getJob(id)).toMatchObject({ status: 'paused', adapter: null });

    await store.resumeJob(id);
    await isAsUninterrupted(await until(id, hasEnded));
    await continuesFromCheckpoints(id);
    const types = (await eventsOf(id)).map(({ type }) => type);
    expect(types.indexOf('job-resumed')).toBe(types.indexOf('job-paused') + 1);
  },
  PATIENCE_MS,
);

test.runIf(HAS_ALL_CASES)(
  'the worker killed with SIGKILL while it pauses the job, which the next one finds paused',
  async () => {
    const id = await sendHeld();
    const trainer = await trainerOf(worker.pid);
    // It has not seen the request when it dies.
    for (const pid of [worker.pid!, trainer]) process.kill(pid, 'SIGSTOP');
    await store.requestPause(id);
    process.kill(trainer, 'SIGKILL');
    await end('SIGKILL');
    await gate.release();
    expect((await store.getJob(id))?.status).toBe('running');
    worker = startWorkerProcess();
    await until(id, ({ status }) => status === 'paused');
    await store.resumeJob(id);
    await isAsUninterrupted(await until(id, hasEnded));
    expect((await eventsOf(id)).filter(({ type }) => type === 'job-paused')).toHaveLength(1);
  },
  PATIENCE_MS,
);

test(
  'a job that publishes a missing checkpoint fails',
  async () => {
    const job = await until(await publish(uninterrupted.id, 7), hasEnded);
    expect(job).toMatchObject({ status: 'failed', attempts: 1, error: { code: 'checkpoint_not_found' } });
  },
  PATIENCE_MS,
);

async function publish(trained: string, step: number): Promise<string> {
  const spec = specOf((await store.getJob(trained))!);
  const { job } = await store.createJob(spec, {
    requestHash: `${trained} ${step}`,
    task: { kind: 'publish-checkpoint', checkpoint: { job: trained, step } },
  });
  return job.id;
}
