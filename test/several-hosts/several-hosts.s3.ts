import { cp, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { MODELS_KIND, pushModel } from '../../packages/base-models/src/index.js';
import { createClient } from '../../packages/client/src/index.js';
import type { Job, JobEvent, Paged } from '../../packages/contracts/src/index.js';
import { openStores } from '../../packages/storage/src/index.js';
import { type RealRedis, startRealRedis } from '../real-redis.js';
import { type RealS3, startRealS3 } from '../real-s3.js';
import { writeTinyLlama } from '../tiny-llama.js';
import { type Host, type Service, startHost } from './host.js';

// An api, a registry and two workers, each with its own folders: they share only Redis and S3.

const MODEL = 'tiny-llama';
const ROWS = Array.from({ length: 32 }, (_, i) => `{"text":"the number ${i} follows the number ${i - 1}"}\n`).join('');
/** Long enough to be interrupted on any machine. */
const EPOCHS = 40;
const PATIENCE_MS = 240_000;
/** The lock of a job. On a busy machine, workers that are alive would lose a shorter one. */
const JOB_LOCK_MS = '15000';

let redis: RealRedis;
let s3: RealS3;
let root: string;
let api: Host;
let registry: Host;
const hosts: Host[] = [];

async function start(service: Service, name: string, more: Record<string, string> = {}): Promise<Host> {
  const environment = {
    ...s3.environment,
    S3_PREFIX: 'several-hosts/',
    REDIS_URL: redis.url,
    REDIS_PREFIX: redis.prefix,
    ...more,
  };
  const host = await startHost({ service, folder: path.join(root, name), environment });
  hosts.push(host);
  return host;
}

async function startWorker(name: string): Promise<Host> {
  // The machine is measured once, not by each of its workers.
  const [measured] = hosts.filter(({ url }) => url === '');
  if (measured !== undefined) {
    await cp(path.join(measured.dataDir, 'machines'), path.join(root, name, 'data/machines'), { recursive: true });
  }
  return await start('worker', name, { WORKER_NAME: name, JOB_LOCK_MS });
}

beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'lorasmith-hosts-'));
  [redis, s3] = await Promise.all([startRealRedis(), startRealS3()]);
  const modelsDir = path.join(root, 'where-models-are-made');
  await writeTinyLlama(path.join(modelsDir, MODEL));
  const stores = await openStores({
    dataDir: path.join(root, 'pushing'),
    s3: { ...s3.settings, prefix: 'several-hosts/', cacheBytes: 2 ** 30 },
  });
  await pushModel({ store: await stores.s3!.open(MODELS_KIND), modelsDir, name: MODEL, replace: false });
  stores.close();
  registry = await start('registry', 'registry-host', { S3_REDIRECT_DOWNLOADS: 'true' });
  api = await start('api', 'api-host', { REGISTRY_URL: registry.url });
});
afterAll(async () => {
  await Promise.all(hosts.map((host) => host.kill('SIGKILL')));
  await s3?.stop();
  await redis?.stop();
  await rm(root, { recursive: true, force: true });
});

async function call<Answer>(route: string, init: RequestInit = {}): Promise<Answer> {
  const response = await fetch(`${api.url}${route}`, init);
  const body = (await response.json()) as Answer;
  if (!response.ok) throw new Error(`${route}: ${response.status} ${JSON.stringify(body)}`);
  return body;
}

const sendJob = (dataset: string) =>
  call<Job>('/jobs', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      base_model: MODEL,
      dataset,
      lora: { r: 4, alpha: 8, target_modules: ['q_proj', 'v_proj'] },
      training: { epochs: EPOCHS, batch_size: 2, max_seq_length: 64, checkpoint_every_steps: 10 },
    }),
  });
const eventsOf = async (job: string) =>
  (await call<Paged<JobEvent>>(`/jobs/${job}/events?limit=1000`, { headers: { accept: 'application/json' } })).data;

async function until<Found>(what: string, look: () => Promise<Found | undefined>): Promise<Found> {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (Date.now() > deadline) throw new Error(`${what}: not within ${PATIENCE_MS} ms\n${hosts.at(-1)?.log()}`);
    await sleep(50);
  }
}
const ended = (job: string) =>
  until(`the end of ${job}`, async () => {
    const found = await call<Job>(`/jobs/${job}`);
    return ['succeeded', 'failed', 'cancelled'].includes(found.status) ? found : undefined;
  });
const bytesOf = async (route: string) => {
  const response = await fetch(`${api.url}${route}`);
  expect(response.status).toBe(200);
  return Buffer.from(await response.arrayBuffer());
};
const storedKeys = async (under: string): Promise<string[]> =>
  (await readdir(path.join(s3.objectsDir, 'several-hosts', under), { recursive: true }).catch(() => [])).filter(
    (name) => /\.(json|safetensors)$/.test(name),
  );

test('a host that dies during a job: another one, without its disk, continues from its checkpoint', async () => {
  expect(await call<{ data: { name: string; problem: unknown }[] }>('/models')).toMatchObject({
    data: [{ name: MODEL, problem: null }],
  });
  const dataset = await call<{ id: string }>('/datasets', {
    method: 'POST',
    headers: { 'content-type': 'application/jsonl' },
    body: ROWS,
  });

  const first = await startWorker('first-worker');
  const interrupted = await sendJob(dataset.id);
  const stored = await until('a checkpoint in the store', async () => {
    const steps = (await storedKeys('checkpoints/records')).map((name) => Number(/step-(\d+)/.exec(name)?.[1]));
    return steps.some((step) => step >= 20) ? Math.max(...steps) : undefined;
  });
  await first.kill('SIGKILL');
  await rm(first.dataDir, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });

  const second = await start('worker', 'second-worker', { WORKER_NAME: 'second-worker', JOB_LOCK_MS });
  const done = await ended(interrupted.id);
  expect(done, second.log()).toMatchObject({ status: 'succeeded', error: null });

  const events = await eventsOf(interrupted.id);
  const starts = events.filter((event) => event.type === 'job-started');
  expect(starts[0]?.data).toEqual({ attempt: 1, worker: 'first-worker' });
  expect(starts.at(-1)?.data.worker).toBe('second-worker');
  const firstStepAgain = events
    .slice(events.findLastIndex(({ type }) => type === 'job-started'))
    .find((event) => event.type === 'step-finished');
  // It continued from a checkpoint that the first host had stored; the newest may not have been stored yet.
  expect(firstStepAgain?.data.step).toBeGreaterThan(10);
  expect(firstStepAgain?.data.step).toBeGreaterThanOrEqual(stored - 9);

  // The same job without an interruption makes the same adapter, bit for bit.
  const whole = await ended((await sendJob(dataset.id)).id);
  expect(whole.status).toBe('succeeded');
  const weights = (adapter: string | null) => bytesOf(`/adapters/${adapter}?format=safetensors`);
  expect(await weights(done.adapter)).toEqual(await weights(whole.adapter));

  // Single files come from the bucket itself.
  const file = `${api.url}/adapters/${done.adapter}/files/adapter_model.safetensors`;
  const redirect = await fetch(file, { redirect: 'manual' });
  expect([redirect.status, redirect.headers.get('cache-control')]).toEqual([307, 'no-store']);
  expect(redirect.headers.get('location')).toContain(s3.settings.endpoint);
  expect((await fetch(file)).url).toContain(s3.settings.endpoint);
  const part = await fetch(file, { headers: { range: 'bytes=8-15' } });
  const bytes = await weights(done.adapter);
  expect([part.status, Buffer.from(await part.arrayBuffer())]).toEqual([206, bytes.subarray(8, 16)]);
  const head = await fetch(file, { method: 'HEAD' });
  expect([head.status, head.url, head.headers.get('content-length')]).toEqual([200, file, String(bytes.length)]);
  const etag = head.headers.get('etag')!;
  expect((await fetch(file, { headers: { 'if-none-match': etag } })).status).toBe(304);
  const client = createClient({ baseUrl: api.url });
  await client.downloadAdapter(done.adapter!, { folder: path.join(root, 'downloaded') });
  expect(await readFile(path.join(root, 'downloaded/adapter_model.safetensors'))).toEqual(bytes);
  expect((await fetch(`${api.url}/adapters/${done.adapter}`)).url).toContain(api.url);

  // The registry merges them, though its host has neither the model nor the adapter.
  const merged = await bytesOf(`/adapters/${done.adapter}?weights=merged`);
  expect(merged.length).toBeGreaterThan(10_000);
  expect(await readdir(path.join(registry.dataDir, '../models'))).toEqual([]);

  // A host has only copies of what is in the store.
  for (const host of hosts.filter(({ url }) => url === '')) {
    expect(await readdir(path.join(host.dataDir, 'datasets')).catch(() => [])).toEqual([]);
  }
  await fetch(`${api.url}/adapters/${done.adapter}`, { method: 'DELETE' });
  expect((await fetch(`${api.url}/adapters/${done.adapter}`)).status).toBe(404);
  expect((await storedKeys('adapters/records')).length).toBe(1);
}, 900_000);
