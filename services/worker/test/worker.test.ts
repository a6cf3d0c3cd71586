import { cp, mkdir, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Writable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { AdapterManifest, type Job, type JobEvent, JobSpec, ProductError } from '@lorasmith/contracts';
import { readModelFolder } from '@lorasmith/model-folder';
import { createJobStore, type JobStore, jobKeys, QUEUE_NAME } from '@lorasmith/queue';
import { createLogger, createMetrics, NO_TRACING, readConfig } from '@lorasmith/service-kit';
import { type BundleStore, openBundleStore, openStores } from '@lorasmith/storage';
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import { pino } from 'pino';
import { type TSchema, Type } from 'typebox';
import { Value } from 'typebox/value';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { runIdentity } from '../../../packages/training/src/start-run.js';
import { type RealRedis, startOwnRedis } from '../../../test/real-redis.js';
import { publishReferenceAdapter } from '../../registry/test/published-adapter.js';
import { cpuEngine } from '../src/device/choose-engine.js';
import { readRecords } from '../src/event-recorder.js';
import { WORKER_SETTINGS, type WorkerConfig } from '../src/settings.js';
import { startWorker, type WorkerOptions, type WorkerService } from '../src/start-worker.js';
import { aDataset, putDataset } from './a-dataset.js';
import { aJobSpec, DATASET } from './a-job-spec.js';

const FIXTURE_TRAINER = fileURLToPath(new URL('fixtures/trainer.mjs', import.meta.url));
const MODELS = fileURLToPath(new URL('../../../test/fixtures/reference', import.meta.url));

const A_CHECKPOINT = {
  object: 'checkpoint' as const,
  step: 1,
  epoch: 1,
  train_loss: 1,
  eval_loss: null,
  is_best: false,
  is_last: true,
  bytes: 100,
  created_at: '2026-01-01T00:00:00.000Z',
};

let server: RealRedis;
let redis: Redis;
let prefix: string;
let store: JobStore;
let queue: Queue;
let dataDir: string;
let modelsDir: string;
let adapters: BundleStore;
let workers: WorkerService[];
let round = 0;

beforeAll(async () => {
  server = await startOwnRedis();
  redis = new Redis(server.url, { maxRetriesPerRequest: null });
  modelsDir = await mkdtemp(path.join(tmpdir(), 'lorasmith-models-'));
  for (const name of ['llama-tied', 'llama-other']) {
    await cp(path.join(MODELS, 'llama-tied/base'), path.join(modelsDir, name), { recursive: true });
  }
});
afterAll(async () => {
  await redis.quit();
  await server.stop();
  await rm(modelsDir, { recursive: true, force: true });
});

beforeEach(async () => {
  prefix = `${server.prefix}${round++}:`;
  store = createJobStore({ redis, prefix });
  queue = new Queue(QUEUE_NAME, { connection: redis, prefix: jobKeys(prefix).queuePrefix });
  dataDir = await mkdtemp(path.join(tmpdir(), 'lorasmith-worker-'));
  adapters = await openBundleStore({ root: dataDir, kind: 'adapters' });
  await putDataset(dataDir, '{"text":"a"}\n', aDataset({ sha256: 'b'.repeat(64), rows: 1, bytes: 13 }));
  workers = [];
});
afterEach(async () => {
  await Promise.all(workers.map((worker) => worker.stop()));
  await queue.close();
  await store.close();
  await rm(dataDir, { recursive: true, force: true });
});

/** A worker with the settings of {@link WORKER_SETTINGS}, but for some of them. */
async function work(
  changes: Partial<WorkerConfig> = {},
  options: Partial<Omit<WorkerOptions, 'config'>> = {},
): Promise<WorkerService> {
  const environment = {
    DATA_DIR: dataDir,
    MODELS_DIR: modelsDir,
    WORKER_NAME: `worker-${workers.length + 1}`,
    JOB_LOCK_MS: '4000',
    SHUTDOWN_TIMEOUT_MS: '10000',
  };
  const config = readConfig(WORKER_SETTINGS, environment);
  const worker = await startWorker({
    config: { ...config, redis: { ...config.redis, prefix }, ...changes },
    redis,
    stores: await openStores({ dataDir, s3: null }),
    programs: { trainer: FIXTURE_TRAINER, probe: null, tryGpu: null },
    engine: cpuEngine(process.env),
    log: pino({ level: 'silent' }),
    metrics: createMetrics({ service: 'worker' }),
    tracing: NO_TRACING,
    onGpuLost: () => {},
    watchIntervalMs: 200,
    ...options,
  });
  workers.push(worker);
  return worker;
}

const send = async (behaviour: string, changes: Partial<JobSpec> = {}) =>
  (await store.createJob(aJobSpec(behaviour, changes), { requestHash: 'h' })).job.id;

async function until(id: string, ...statuses: Job['status'][]): Promise<Job> {
  const deadline = Date.now() + 240_000;
  for (;;) {
    const job = await store.getJob(id);
    if (job !== null && statuses.includes(job.status)) return job;
    if (Date.now() > deadline) throw new Error(`the job is ${job?.status}, not ${statuses.join(' or ')}`);
    await sleep(20);
  }
}

const ended = (id: string) => until(id, 'succeeded', 'failed', 'cancelled');
const eventsOf = async (id: string): Promise<JobEvent[]> => (await store.readEvents(id, { limit: 1000 })).data;
const typesOf = async (id: string) => (await eventsOf(id)).map(({ type }) => type);
const foldersOfJobs = () => readdir(path.join(dataDir, 'jobs'));

/** Polls the check: after a record has ended, the worker still has to clean up and to report to the queue. */
async function eventually(check: () => Promise<void>): Promise<void> {
  for (let i = 0; i < 200; i++) {
    try {
      return await check();
    } catch {
      await sleep(50);
    }
  }
  await check();
}

/** The files that a job has left besides its log for TensorBoard, which it has once it has trained a step. */
const leftIn = async (folder: string) => (await readdir(folder)).filter((name) => name !== 'tensorboard');

/** A store of which some methods are others. */
function withMethods(store: BundleStore, methods: Partial<BundleStore>): BundleStore {
  return new Proxy(store, {
    get(target, name) {
      const found: unknown = Reflect.get(methods, name) ?? Reflect.get(target, name, target);
      return typeof found === 'function' ? found.bind(target) : found;
    },
  });
}

describe('a job', () => {
  test('publishes an adapter with a manifest and the event of it', async () => {
    await work();
    const id = await send('finish');
    const job = await ended(id);
    const adapter = `ad_${id.slice(4)}`;
    expect(job).toMatchObject({ status: 'succeeded', adapter, attempts: 1, error: null, progress: { step: 200 } });
    expect(job.report?.family).toBe('llama');
    expect((await adapters.files(adapter)).map(({ name }) => name)).toEqual([
      'README.md',
      'adapter_config.json',
      'adapter_model.safetensors',
      'manifest.json',
      'training.tfevents',
    ]);
    const manifest = (await adapters.readJson(adapter, 'manifest.json')) as AdapterManifest;
    expect([...Value.Errors(AdapterManifest, manifest)]).toEqual([]);
    expect(manifest).toMatchObject({
      id: adapter,
      name: 'a name',
      origin: {
        kind: 'trained',
        job: id,
        settings: aJobSpec('finish'),
        dataset: { id: DATASET, sha256: 'b'.repeat(64), rows: 1 },
      },
    });
    expect(manifest.files.map(({ name }) => name)).toEqual([
      'adapter_config.json',
      'adapter_model.safetensors',
      'training.tfevents',
      'README.md',
    ]);
    const log = readRecords(await buffer(await adapters.read(adapter, 'training.tfevents')));
    expect(log.map(({ kind }) => kind)).toEqual(['version', ...log.slice(1).map(() => 'scalars')]);
    expect(log.at(-1)?.step).toBe(200);
    await eventually(async () => {
      expect(await readdir(path.join(dataDir, 'jobs', id))).toEqual(['checkpoints', 'tensorboard']);
      expect(await queue.getJobState(id)).toBe('unknown');
    });
  });

  test('shows the first row in its report, and not to those who get its adapter', async () => {
    await work();
    const job = await ended(await send('finish'));
    expect(job.report?.rendered).toMatchObject({ rejected: [{ text: 'the other answer' }], label: true });
    const manifest = (await adapters.readJson(job.adapter ?? '', 'manifest.json')) as AdapterManifest;
    expect(manifest).toMatchObject({ origin: { report: { family: 'llama' } } });
    const { report } = manifest.origin as Extract<AdapterManifest['origin'], { kind: 'trained' }>;
    expect(report.rendered).toEqual({ completion_format: 'chat', first_row: [] });
    for (const { name } of await adapters.files(job.adapter ?? '')) {
      const content = await buffer(await adapters.read(job.adapter ?? '', name));
      expect(content.toString('latin1'), name).not.toMatch(/the (first|other) answer/);
    }
  });

  test('passes every field of the spec, also a new one, to its trainer, its manifest and the identity of its run', async () => {
    const properties: Record<string, TSchema> = JobSpec.properties;
    properties.loss_scale = Type.Number();
    try {
      const spec = { ...aJobSpec('finish'), loss_scale: 7 };
      await work();
      const { job } = await store.createJob(spec, { requestHash: 'h' });
      const adapter = (await ended(job.id)).adapter ?? '';
      expect(await adapters.readJson(adapter, 'adapter_config.json')).toMatchObject({ spec });
      expect(await adapters.readJson(adapter, 'manifest.json')).toMatchObject({ origin: { settings: spec } });

      const model = await readModelFolder(path.join(modelsDir, spec.base_model));
      const run = { model, plan: { examplesSha256: 'a' }, weightsSha256: 'b', precision: 'float32' as const };
      const identityOf = (changes: object) => runIdentity({ ...run, spec: { ...spec, ...changes } }).id;
      const others = Object.keys(properties).filter((field) => identityOf({ [field]: 'other' }) !== identityOf({}));
      expect(others).toEqual(['validation', 'lora', 'objective', 'training', 'loss_scale']);
    } finally {
      delete properties.loss_scale;
    }
  });

  test('a job that exceeds its time limit is stopped, fails, and can be resumed', async () => {
    await work({ jobTimeoutMs: 300 });
    const id = await send('go-on');
    const job = await ended(id);
    expect(job).toMatchObject({ status: 'failed', attempts: 1, error: { code: 'job_timed_out' } });
    // A resumed job gets its complete time limit again.
    await store.resumeJob(id);
    await eventually(async () => {
      expect(await store.getJob(id)).toMatchObject({ status: 'failed', attempts: 2, error: { code: 'job_timed_out' } });
    });
  });

  test('reports at most one step a second, and the last step', async () => {
    await work();
    const id = await send('finish');
    await ended(id);
    const events = await eventsOf(id);
    const steps = events.flatMap((event) => (event.type === 'step-finished' ? [event.data.step] : []));
    expect(steps).toEqual([1, 200]);
    expect(events.map(({ type }) => type)).toEqual([
      'job-queued',
      'job-started',
      'report-ready',
      'step-finished',
      'step-finished',
      'adapter-published',
    ]);
  });

  test('succeeds if an attempt published its adapter before it died', async () => {
    const id = await send('crash');
    const staging = await adapters.stage();
    await staging.write('adapter_model.safetensors', [Buffer.from('by the attempt before')]);
    await adapters.publish(staging, `ad_${id.slice(4)}`);
    await work();
    expect(await ended(id)).toMatchObject({ status: 'succeeded', adapter: `ad_${id.slice(4)}` });
  });

  test('hands in the figures of an adapter that an attempt published before it died: its sweep compares by them', async () => {
    const id = await send('crash');
    const adapter = `ad_${id.slice(4)}`;
    const evaluation = { loss: 0.25, perplexity: 1.3, accuracy: 0.75, tokens: 10, trained_tokens: 5 };
    await publishReferenceAdapter(adapters, {
      id: adapter,
      name: 'llama-tied',
      change({ origin }) {
        if (origin.kind === 'trained') Object.assign(origin.result, { adapter_step: 2, evaluation_after: evaluation });
      },
    });
    await work();
    expect((await ended(id)).status).toBe('succeeded');
    expect(await store.sweeps.jobs([id])).toMatchObject([
      { adapter, evaluation: { step: 2, loss: 0.25, accuracy: 0.75, reward: null } },
    ]);
    expect((await eventsOf(id)).at(-1)).toMatchObject({ type: 'adapter-published', data: { adapter, step: 2 } });
  });

  test('succeeds if its last attempt fails after it has published the adapter', async () => {
    const stores = await openStores({ dataDir, s3: null });
    const lost = new ProductError('storage_unavailable', 'The answer of the store was lost.');
    // Two in each of the attempts before the last.
    let failures = 4;
    const open = async (kind: string) => {
      const opened = await stores.open(kind);
      if (kind !== 'adapters') return opened;
      const has: typeof opened.has = async (id) => {
        if (failures-- > 0) throw lost;
        return await opened.has(id);
      };
      const publish: typeof opened.publish = async (...args) => {
        await opened.publish(...args);
        throw lost;
      };
      return withMethods(opened, { has, publish });
    };
    await work({}, { stores: { ...stores, open } });
    const id = await send('finish');
    const adapter = `ad_${id.slice(4)}`;
    expect(await ended(id)).toMatchObject({ status: 'succeeded', attempts: 3, adapter });
    expect(await adapters.list()).toEqual([adapter]);
  });

  test('a job that starts while the store is unavailable reports that', async () => {
    const stores = await openStores({ dataDir, s3: null });
    const unavailable = async () => {
      throw new ProductError('storage_unavailable', 'The store cannot be reached.');
    };
    const open = async (kind: string) =>
      withMethods(await stores.open(kind), kind === 'adapters' ? { has: unavailable } : {});
    await work({}, { stores: { ...stores, open } });
    const id = await send('finish');
    expect(await ended(id)).toMatchObject({ status: 'failed', attempts: 3, error: { code: 'storage_unavailable' } });
  });
});

describe('a crash', () => {
  test('is followed by another attempt from the last checkpoint', async () => {
    await work();
    const id = await send('crash-once');
    expect(await ended(id)).toMatchObject({ status: 'succeeded', attempts: 2 });
    expect(await typesOf(id)).toEqual([
      'job-queued',
      'job-started',
      'report-ready',
      'checkpoint-saved',
      'job-started',
      'report-ready',
      'adapter-published',
    ]);
  });

  test('a crash for the third time fails the job, and its checkpoints are retained', async () => {
    await work();
    const id = await send('crash');
    const job = await ended(id);
    expect(job).toMatchObject({ status: 'failed', attempts: 3, adapter: null, error: { code: 'trainer_crashed' } });
    expect((await typesOf(id)).at(-1)).toBe('job-failed');
    await eventually(async () => {
      expect(await queue.getJobState(id)).toBe('failed');
      expect(await leftIn(path.join(dataDir, 'jobs', id))).toEqual(['checkpoints']);
    });
    expect(await adapters.list()).toEqual([]);
  });
});

describe('an adapter that is not the trained one', () => {
  test.each([
    ['fail-check', 'Matrix A of q_proj is another.'],
    ['spoil', 'adapter_model.safetensors differs from the file that the trainer checked'],
  ])('is not published, and its job fails at once (%s)', async (behaviour, message) => {
    await work();
    const id = await send(behaviour);
    expect(await ended(id)).toMatchObject({
      status: 'failed',
      attempts: 1,
      adapter: null,
      error: { code: 'adapter_check_failed', message: expect.stringContaining(message) },
    });
    expect(await adapters.list()).toEqual([]);
    await eventually(async () => expect(await leftIn(path.join(dataDir, 'jobs', id))).toEqual(['checkpoints']));
  });
});

describe('invalid input', () => {
  test.each<[string, string, Partial<JobSpec>]>([
    ['refuse', 'non_finite_loss', {}],
    ['finish', 'model_not_found', { base_model: 'nowhere' }],
    ['finish', 'dataset_not_found', { dataset: 'ds_ffffffffffffffffffffffff' }],
    ['finish', 'dataset_not_found', { validation: { split: 0, dataset: 'ds_ffffffffffffffffffffffff' } }],
    ['finish', 'adapter_not_found', { lora: { ...aJobSpec('').lora, init_from: 'ad_ffffffffffffffffffffffff' } }],
  ])('ends a job at its first attempt (%s, %s)', async (behaviour, code, changes) => {
    await work();
    const id = await send(behaviour, changes);
    expect(await ended(id)).toMatchObject({ status: 'failed', attempts: 1, error: { code } });
    await eventually(async () => expect(await queue.getJobState(id)).toBe('failed'));
  });
});

describe('a cancel', () => {
  test('a cancel of a running job takes effect and leaves only its checkpoints', async () => {
    await work();
    const id = await send('stop-when-asked');
    await until(id, 'running');
    await store.requestCancel(id);
    expect((await ended(id)).status).toBe('cancelled');
    expect((await typesOf(id)).at(-1)).toBe('job-cancelled');
    await eventually(async () => expect(await leftIn(path.join(dataDir, 'jobs', id))).toEqual(['checkpoints']));
    expect(await adapters.list()).toEqual([]);
    const next = await send('finish');
    expect((await ended(next)).status).toBe('succeeded');
  });

  test('a cancel of a job whose trainer hangs while it saves leaves no incomplete checkpoint', async () => {
    await work({ trainerSilenceMs: 3_000 });
    const id = await send('hang-while-saving');
    await until(id, 'running');
    await store.requestCancel(id);
    expect((await ended(id)).status).toBe('cancelled');
    expect(await readdir(path.join(dataDir, 'jobs', id, 'checkpoints'))).toEqual([]);
  });

  test('a cancel of a waiting job prevents its start', async () => {
    await work({ jobsAtOnce: 1 });
    const running = await send('stop-when-asked');
    const waiting = await send('finish');
    await until(running, 'running');
    expect((await store.requestCancel(waiting)).status).toBe('cancelled');
    await store.requestCancel(running);
    await ended(running);
    const next = await send('finish');
    await ended(next);
    expect(await typesOf(waiting)).toEqual(['job-queued', 'job-cancelled']);
  });

  test('right after the end of the training still prevents publishing', async () => {
    await work({}, { watchIntervalMs: 60_000 });
    const id = await send('finish-late');
    await until(id, 'running');
    await store.requestCancel(id);
    expect((await ended(id)).status).toBe('cancelled');
    expect(await adapters.list()).toEqual([]);
  });
});

describe('jobs on two base models', () => {
  const sendThree = async () => {
    const jobs: string[] = [];
    for (const model of ['llama-tied', 'llama-other', 'llama-tied']) {
      jobs.push(await send('finish', { base_model: model }));
    }
    return jobs;
  };
  const startTimes = async (jobs: string[]) =>
    (await Promise.all(jobs.map(ended))).map(({ status, started_at: startedAt }) => {
      expect(status).toBe('succeeded');
      return startedAt!;
    });

  test('start with those on the loaded model', async () => {
    const jobs = await sendThree();
    await work();
    const [first, second, third] = await startTimes(jobs);
    expect([first, third, second]).toEqual([first, second, third].sort());
  });
});

describe('a worker that stops', () => {
  test('a worker that stops on request releases its job, and the next worker continues from the checkpoint', async () => {
    const first = await work();
    const id = await send('stop-when-asked');
    await until(id, 'running');
    await first.stop();
    expect((await store.getJob(id))?.status).toBe('queued');
    expect(await queue.getJobState(id)).toBe('waiting');
    expect((await typesOf(id)).at(-1)).toBe('checkpoint-saved');
    await work();
    expect(await ended(id)).toMatchObject({ status: 'succeeded', attempts: 2 });
    const [started] = (await eventsOf(id)).filter((event) => event.type === 'job-started').slice(-1);
    expect(started?.data).toEqual({ attempt: 2, worker: 'worker-2' });
  });

  test('because its GPU is lost releases its jobs without counting an attempt', async () => {
    const ids = [await send('lose-gpu'), await send('lose-gpu')];
    // More often than the limit of attempts.
    for (let round = 1; round <= 4; round++) {
      let calls = 0;
      const worker = await work({}, { onGpuLost: () => calls++ });
      await eventually(async () => expect(calls).toBe(1));
      await worker.stop();
      expect(calls).toBe(1);
      for (const id of ids) {
        expect(await store.getJob(id)).toMatchObject({ status: 'queued', error: null });
        expect(await queue.getJob(id)).toMatchObject({ attemptsMade: 0 });
        expect(await queue.getJobState(id)).toBe('waiting');
      }
    }
  });

  test('repeatedly costs no attempt', async () => {
    // More often than the limit of attempts.
    const id = await send('go-on');
    for (let round = 1; round <= 4; round++) {
      const worker = await work();
      await until(id, 'running');
      await worker.stop();
      expect(await store.getJob(id)).toMatchObject({ status: 'queued', attempts: round });
      expect((await queue.getJob(id))?.attemptsMade).toBe(0);
    }
  });

  test('cancels its job if a cancel was requested', async () => {
    const first = await work({}, { watchIntervalMs: 60_000 });
    const id = await send('stop-when-asked');
    await until(id, 'running');
    await store.requestCancel(id);
    await first.stop();
    expect((await store.getJob(id))?.status).toBe('cancelled');
  });

  test('a worker that stops without a job ends by itself', async () => {
    const worker = await work();
    await worker.stop();
  });
});

describe('a lost job', () => {
  test('stops a job whose lock is lost, publishes nothing of it, and takes it again', async () => {
    await work();
    const id = await send('stop-when-asked');
    await until(id, 'running');
    // As if this worker had been unreachable for longer than the duration of the lock.
    await redis.del(`${queue.toKey(id)}:lock`);
    await eventually(async () => expect((await store.getJob(id))?.attempts).toBe(2));
    // A stop for any other reason would have saved a checkpoint, and the second attempt would have finished.
    await until(id, 'running');
    expect(await typesOf(id)).not.toContain('checkpoint-saved');
    expect(await adapters.list()).toEqual([]);
    await store.requestCancel(id);
    expect((await ended(id)).status).toBe('cancelled');
  });

  test('a lost job that another attempt has taken is given up', async () => {
    const worker = await work();
    const id = await send('finish-late');
    await until(id, 'running');
    const other = await store.attempts.start(id, 'elsewhere');
    expect(other.outcome).toBe('started');
    // Waits for the trainer, which finishes.
    await worker.stop();
    expect(await adapters.list()).toEqual([]);
    expect((await store.getJob(id))?.status).not.toBe('succeeded');
    if (other.outcome === 'started') await store.attempts.cancel(other.attempt);
  });
});

test('a pause that is withdrawn while the worker pauses the job costs it no place in the queue', async () => {
  await work({ jobsAtOnce: 1 });
  const id = await send('pause-slowly');
  await until(id, 'running');
  const next = await send('finish');
  await store.requestPause(id);
  const checkpoints = path.join(dataDir, 'jobs', id, 'checkpoints');
  await eventually(async () => expect(await readdir(checkpoints)).toContain('is-pausing'));
  expect(await store.resumeJob(id)).toMatchObject({ status: 'running', resumes: 0 });
  await writeFile(path.join(checkpoints, 'may-pause'), '');
  const [first, second] = [await ended(id), await ended(next)];
  expect(first).toMatchObject({ status: 'succeeded', attempts: 2 });
  expect(Date.parse(second.started_at ?? '')).toBeGreaterThanOrEqual(Date.parse(first.ended_at ?? ''));
});

describe('a resume', () => {
  test('a resume of a failed job keeps its id and restores all its attempts', async () => {
    await work();
    const id = await send('refuse');
    expect(await ended(id)).toMatchObject({ status: 'failed', attempts: 1 });
    await store.resumeJob(id);
    expect(await ended(id)).toMatchObject({ status: 'failed', attempts: 2, resumes: 1 });
    await eventually(async () => expect(await queue.getJobState(`${id}.1`)).toBe('failed'));
    const types = await typesOf(id);
    expect(types.filter((type) => type === 'job-failed')).toHaveLength(2);
    expect(types[types.indexOf('job-failed') + 1]).toBe('job-resumed');
  });

  test('a resume of a cancelled job continues from its checkpoint', async () => {
    await work();
    const id = await send('stop-when-asked');
    await until(id, 'running');
    await store.requestCancel(id);
    await ended(id);
    await writeFile(path.join(dataDir, 'jobs', id, 'checkpoints', 'step-1'), '');
    await store.resumeJob(id);
    await until(id, 'succeeded');
    expect(await store.getJob(id)).toMatchObject({ status: 'succeeded', adapter: `ad_${id.slice(4)}`, resumes: 1 });
    expect((await typesOf(id)).filter((type) => type.startsWith('job-') || type === 'adapter-published')).toEqual([
      'job-queued',
      'job-started',
      'job-cancelled',
      'job-resumed',
      'job-started',
      'adapter-published',
    ]);
  });

  test('a resume before the worker has released the job loses nothing', async () => {
    await work();
    const id = await send('stop-when-asked');
    await until(id, 'running');
    await store.requestCancel(id);
    // As soon as the record has ended, whatever the queue still contains.
    await until(id, 'cancelled');
    await store.resumeJob(id);
    await until(id, 'running');
    await store.requestCancel(id);
    expect(await ended(id)).toMatchObject({ status: 'cancelled', attempts: 2 });
  });
});

test('losing every connection to Redis in the middle of a job costs nothing', async () => {
  await work();
  const id = await send('finish-late');
  await until(id, 'running');
  await redis.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'no').catch(() => {});
  expect(await ended(id)).toMatchObject({ status: 'succeeded', attempts: 1 });
  expect((await ended(await send('finish'))).status).toBe('succeeded');
});

test('jobs are counted and timed, and every log line of a job names the job and its request', async () => {
  const metrics = createMetrics({ service: 'worker' });
  const lines: Record<string, unknown>[] = [];
  const destination = new Writable({
    write(chunk, _encoding, done) {
      lines.push(JSON.parse(chunk.toString()));
      done();
    },
  });
  await work({}, { metrics, log: createLogger({ service: 'worker', level: 'info', destination }) });
  const origin = { requestId: 'req_1', trace: {} };
  const { job } = await store.createJob(aJobSpec('finish'), { requestHash: 'h', origin });
  await ended(job.id);
  const broken = await send('refuse');
  await ended(broken);
  const text = async () => await metrics.metrics();
  await eventually(async () => {
    expect(await text()).toContain('lorasmith_job_attempts_total{outcome="failed",code="non_finite_loss"} 1');
  });
  expect(await text()).toContain('lorasmith_job_attempts_total{outcome="succeeded",code=""} 1');
  expect(await text()).toContain('lorasmith_training_step_seconds_count 199');
  expect(await text()).toContain('lorasmith_job_wait_seconds_count 2');
  expect(await text()).toMatch(/^lorasmith_trainer_memory_bytes [1-9]/m);
  expect(await text()).not.toContain(job.id);
  const own = { job: job.id, adapter: `ad_${job.id.slice(4)}`, request_id: 'req_1' };
  // The record of a job ends before its last line is written, and the next job may start meanwhile.
  await eventually(async () => {
    const ofJobs = lines.filter((line) => String(line.msg).startsWith('job '));
    expect(ofJobs.filter((line) => line.job === job.id)).toEqual([
      expect.objectContaining({ ...own, msg: 'job started' }),
      expect.objectContaining({ ...own, msg: 'job ended', outcome: 'ended', status: 'succeeded' }),
    ]);
    const others = ofJobs.filter((line) => line.job !== job.id);
    expect(others.every((line) => line.job === broken && line.request_id === null)).toBe(true);
  });
});

describe('after a process died', () => {
  test('a job that is missing from the queue is still trained', async () => {
    const id = await send('finish');
    await queue.remove(id);
    await work();
    expect((await ended(id)).status).toBe('succeeded');
  });

  test('folders of missing jobs are removed, those of ended jobs are cleaned up', async () => {
    const [failed, cancelled] = [await send('finish'), await send('finish')];
    const start = await store.attempts.start(failed, 'w');
    if (start.outcome === 'started') {
      await store.attempts.fail(start.attempt, { code: 'trainer_crashed', message: '', details: [] });
    }
    await store.requestCancel(cancelled);
    const missing = 'job_000000000000000000000000';
    for (const id of [failed, cancelled, missing]) await mkdir(path.join(dataDir, 'jobs', id), { recursive: true });
    await writeFile(path.join(dataDir, 'jobs', 'not-a-job'), '');
    const checkpoints = path.join(dataDir, 'jobs', failed, 'checkpoints');
    await mkdir(checkpoints);
    await mkdir(path.join(dataDir, 'jobs', failed, 'attempt-1'));
    const saved = 'step-0000000001.safetensors';
    for (const name of [saved, `${saved}.0123abcd.tmp`]) {
      await writeFile(path.join(checkpoints, name), '');
      await utimes(path.join(checkpoints, name), 0, 0);
    }
    await work();
    await eventually(async () => {
      expect((await foldersOfJobs()).sort()).toEqual([failed, cancelled, 'not-a-job'].sort());
      expect(await leftIn(path.join(dataDir, 'jobs', failed))).toEqual(['checkpoints']);
      expect(await readdir(checkpoints)).toEqual([saved]);
    });
  });

  test('checkpoints of jobs that ended long ago are removed from disk and from the list', async () => {
    const id = await send('finish');
    const start = await store.attempts.start(id, 'w');
    if (start.outcome !== 'started') throw new Error('not started');
    await store.attempts.recordCheckpoints(start.attempt, [{ ...A_CHECKPOINT, job: id }]);
    await store.attempts.fail(start.attempt, { code: 'trainer_crashed', message: '', details: [] });
    expect(await store.checkpoints.list(id)).toHaveLength(1);
    await mkdir(path.join(dataDir, 'jobs', id, 'checkpoints'), { recursive: true });
    await work({ checkpointsKeptHours: 0 });
    await eventually(async () => expect(await foldersOfJobs()).toEqual([]));
    expect(await store.checkpoints.list(id)).toEqual([]);
    expect((await store.getJob(id))?.status).toBe('failed');
  });
});
