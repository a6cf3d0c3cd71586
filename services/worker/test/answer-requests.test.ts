import { cp, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { publishSnapshot } from '@lorasmith/artifacts';
import { localModels } from '@lorasmith/base-models';
import type { GenerationChunk, GenerationRequest } from '@lorasmith/contracts';
import { createGenerationClient, createGenerationServer, type GenerationClient } from '@lorasmith/queue';
import { createMetrics } from '@lorasmith/service-kit';
import { type BundleStore, openBundleStore } from '@lorasmith/storage';
import { Redis } from 'ioredis';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { answerRequests } from '../src/generation/answer-requests.js';
import { DEFAULT_POOL_TIMES, TrainerPool } from '../src/trainer/trainer-pool.js';
import { DEFAULT_TRAINER_LIMITS, startTrainer } from '../src/trainer/trainer-process.js';
import { createGenerationMetrics } from '../src/worker-metrics.js';
import { aTrainOrder } from './a-train-order.js';

// A real Redis, pool and trainer process, whose child side answers with the name of the base model.

const PROGRAM = fileURLToPath(new URL('fixtures/waiting-trainer.mjs', import.meta.url));
const BASE = fileURLToPath(new URL('../../../test/fixtures/reference/llama-tied/base', import.meta.url));

let server: RealRedis;
let redis: Redis;
let folder: string;
let pool: TrainerPool;
let generation: GenerationClient;
let stop: () => Promise<void>;
let metrics: ReturnType<typeof createMetrics>;
/** Resolves when a base model is on this host. */
let fetched: Promise<void>;
let snapshots: BundleStore;
/** Base models that were fetched, and those of them that are held. */
let fetches: number;
let heldModels: number;

beforeEach(async () => {
  server = await startRealRedis();
  redis = new Redis(server.url, { maxRetriesPerRequest: null });
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-answers-'));
  for (const name of ['one', 'two']) await cp(BASE, path.join(folder, 'models', name), { recursive: true });
  await mkdir(path.join(folder, 'data'));
  pool = new TrainerPool({
    ...DEFAULT_POOL_TIMES,
    jobsAtOnce: 2,
    start: () =>
      startTrainer({
        program: { file: PROGRAM, environment: process.env },
        limits: DEFAULT_TRAINER_LIMITS,
        onLine: () => {},
      }),
  });
  metrics = createMetrics({ service: 'test' });
  const local = localModels(path.join(folder, 'models'));
  fetched = Promise.resolve();
  fetches = heldModels = 0;
  snapshots = await openBundleStore({ root: path.join(folder, 'data'), kind: 'snapshots' });
  const options = { redis, prefix: server.prefix };
  generation = createGenerationClient(options);
  stop = answerRequests({
    server: createGenerationServer({ ...options, workerName: 'one' }),
    pool,
    models: {
      ...local,
      async lease(name) {
        await fetched;
        const { modelsDir } = await local.lease(name);
        fetches++;
        heldModels++;
        return { modelsDir, release: () => void heldModels-- };
      },
    },
    adapters: await openBundleStore({ root: path.join(folder, 'data'), kind: 'adapters' }),
    snapshots,
    machine: null,
    weightDigests: path.join(folder, 'digests'),
    log: pino({ level: 'silent' }),
    metrics: createGenerationMetrics(metrics),
    atOnce: 2,
    timeoutMs: 60_000,
  });
});
afterEach(async () => {
  await stop();
  generation.close();
  await pool.close();
  await redis.quit();
  await server.stop();
  await rm(folder, { recursive: true, force: true });
});

type How = 'wait' | 'end' | 'end with its order' | 'crash';

function requestFor(base: string, how: How, adapter: string | null = null): GenerationRequest {
  return {
    base_model: base,
    adapter,
    input: { kind: 'text', prompts: ['x'], echo: false },
    ...{ n: 1, max_tokens: 1, temperature: 0, top_p: 1, seed: 1, stop: [how], logprobs: null },
    schema: null,
    ...{ top_k: 0, min_p: 0, presence_penalty: 0, frequency_penalty: 0, repetition_penalty: 1 },
  };
}

/** Asks, and resolves at the first piece. */
async function ask(base: string, how: How, waitMs = 30_000, adapter: string | null = null) {
  const leaving = new AbortController();
  const request = requestFor(base, how, adapter);
  const pieces: GenerationChunk[] = [];
  const answer = generation.ask(request, { waitMs, signal: leaving.signal });
  const first = await answer.next();
  if (!first.done) pieces.push(first.value);
  const all = (async () => {
    for await (const piece of answer) pieces.push(piece);
    return pieces;
  })();
  return { all, leave: () => leaving.abort() };
}
const failed = (code: string) =>
  expect.objectContaining({ type: 'failed', failure: expect.objectContaining({ code }) });
const counted = async (outcome: string) =>
  (await metrics.getSingleMetric('lorasmith_generation_requests_total')!.get()).values.find(
    ({ labels }) => labels.outcome === outcome,
  )?.value;

test('an idle worker answers for any base model, one after the other, and as many at once as it may', async () => {
  expect(await (await ask('one', 'end')).all).toEqual([
    { type: 'text', choice: 0, text: 'one', tokens: [] },
    { type: 'finish', choice: 0, reason: 'stop' },
    { type: 'end', prompt_tokens: 1, completion_tokens: 2 },
  ]);
  const waiting = [await ask('two', 'wait'), await ask('two', 'wait')];
  // A third one, and one for the other base model, find no worker.
  for (const base of ['two', 'one'])
    await expect(ask(base, 'end', 50)).rejects.toMatchObject({ code: 'service_unavailable' });
  waiting[0]!.leave();
  expect((await (await ask('two', 'end')).all).at(-1)).toMatchObject({ type: 'end' });
  waiting[1]!.leave();
  await expect.poll(() => counted('left')).toBe(2);
  expect(await counted('answered')).toBe(2);
});

test('a job of another base model waits only for the answers under way, and none is begun before it', async () => {
  const waiting = await ask('one', 'wait');
  const stopping = new AbortController();
  const order = aTrainOrder(folder, `job_${'1'.repeat(24)}`, 'wait', 'two');
  let began = () => {};
  const begun = new Promise<void>((resolve) => {
    began = resolve;
  });
  const run = pool.add(order.spec).run(order, { signal: stopping.signal, onEvent: () => began() });
  await expect(ask('one', 'end', 50)).rejects.toMatchObject({ code: 'service_unavailable' });
  waiting.leave();
  await begun;
  // Beside the job, its own base model answers, and no other.
  expect((await (await ask('two', 'end')).all).at(-1)).toMatchObject({ type: 'end' });
  await expect(ask('one', 'end', 50)).rejects.toMatchObject({ code: 'service_unavailable' });
  stopping.abort('shutdown');
  await run;
});

test('if the trainer crashes, each answer ends with an error, and the next one has another trainer', async () => {
  const company = await ask('one', 'wait');
  const crashing = await ask('one', 'crash');
  for (const { all } of [company, crashing]) expect((await all).at(-1)).toEqual(failed('service_unavailable'));
  expect((await (await ask('one', 'end')).all).at(-1)).toMatchObject({ type: 'end' });
});

test('if the worker stops, its answers end with an error; an adapter or a model that is gone is one, too', async () => {
  expect(await (await ask('one', 'end', 30_000, `ad_${'0'.repeat(24)}`)).all).toEqual([failed('adapter_not_found')]);
  expect(await (await ask('three', 'end')).all).toEqual([failed('model_not_found')]);
  const waiting = await ask('one', 'wait');
  const stopped = stop();
  expect((await waiting.all).at(-1)).toEqual(failed('service_unavailable'));
  await stopped;
  await expect(ask('one', 'end', 50)).rejects.toMatchObject({ code: 'service_unavailable' });
});

test('a snapshot of a model in training is an adapter in its own precision, until it is removed', async () => {
  const id = `sn_${'1'.repeat(24)}`;
  const identity = { weights_sha256: '0'.repeat(64), architecture_sha256: '0'.repeat(64) };
  await publishSnapshot(snapshots, await snapshots.stage(), id, {
    model: 'session:train:0',
    base_model: { name: 'one', family: 'llama', ...identity, quantization: null },
    precision: 'bfloat16',
  });
  const [, order] = await (await ask('one', 'end with its order', 30_000, id)).all;
  expect(JSON.parse((order as { text: string }).text)).toEqual({
    adapterFolder: path.join(folder, 'data', 'snapshots', id),
    precision: 'bfloat16',
    quantization: 'none',
  });
  await snapshots.delete(id);
  expect(await (await ask('one', 'end', 30_000, id)).all).toEqual([failed('adapter_not_found')]);
});

test('a request whose base model is still being fetched ends when nobody waits any more, or the worker stops', async () => {
  let arrive = () => {};
  fetched = new Promise((resolve) => {
    arrive = resolve;
  });
  const leaving = new AbortController();
  const { signal } = leaving;
  const left = generation.ask(requestFor('one', 'end'), { waitMs: 30_000, signal }).next();
  await expect.poll(() => redis.keys(`${server.prefix}generation:claim:*`)).toHaveLength(1);
  leaving.abort();
  await left;
  await expect.poll(() => counted('left')).toBe(1);
  const other = generation
    .ask(requestFor('one', 'end'), { waitMs: 30_000, signal: new AbortController().signal })
    .next();
  await expect.poll(() => redis.keys(`${server.prefix}generation:claim:*`)).toHaveLength(1);
  await stop();
  expect((await other).value).toEqual(failed('service_unavailable'));
  arrive();
  await expect.poll(() => [fetches, heldModels]).toEqual([2, 0]);
});

test('nothing of an answer that has ended is kept while its trainer lives', async () => {
  const trainer = startTrainer({
    program: { file: PROGRAM, environment: process.env },
    limits: DEFAULT_TRAINER_LIMITS,
    onLine: () => {},
  });
  onTestFinished(() => trainer.end());
  const answered = async () => {
    const order = {
      request: requestFor('one', 'end'),
      ...{ modelFolder: BASE, adapterFolder: null, machine: null, weightDigests: folder },
      ...{ precision: 'float32' as const, quantization: 'none' as const },
      inTrainer: { baseModel: 'one', precision: 'float32' as const, quantization: 'none' as const },
    };
    const { signal } = new AbortController();
    expect(await trainer.generate(order, { signal, onChunk: () => {} })).toMatchObject({ type: 'answered' });
    return new WeakRef(order);
  };
  const orders = [await answered(), await answered()];
  setFlagsFromString('--expose-gc');
  const collectGarbage = runInNewContext('gc') as () => void;
  await expect
    .poll(() => {
      collectGarbage();
      return orders.filter((order) => order.deref() !== undefined).length;
    })
    .toBe(0);
});
