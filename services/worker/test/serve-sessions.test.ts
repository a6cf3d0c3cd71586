import { access, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readManifest, readSnapshot } from '@lorasmith/artifacts';
import { localModels } from '@lorasmith/base-models';
import type {
  AdapterId,
  ForwardBackwardOp,
  OptimizerStepOp,
  QueuedSessionOp,
  QueuedSessionResult,
  SnapshotId,
} from '@lorasmith/contracts';
import { type TrainedModelRecord, TrainingSessionServer, TrainingSessionStore } from '@lorasmith/queue';
import { type BundleStore, openBundleStore } from '@lorasmith/storage';
import { Redis } from 'ioredis';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { writeTinyLlama } from '../../../test/tiny-llama.js';
import { serveSessions } from '../src/sessions/serve-sessions.js';
import { endSilentSessions, removeLostSnapshots } from '../src/sessions/session-leftovers.js';
import { SESSION_TIMES, type SessionTimes } from '../src/sessions/session-run.js';
import { DEFAULT_POOL_TIMES, TrainerPool } from '../src/trainer/trainer-pool.js';
import { DEFAULT_TRAINER_LIMITS, startTrainer } from '../src/trainer/trainer-process.js';
import { COMPILED_TRAINER } from './compiled-trainer.js';

// A real Redis, pool and compiled trainer.

const SESSION = 'one';
const MODEL = `${SESSION}:train:0`;
const CLIENT = { tags: [], sdk_version: null, project_id: null, user_metadata: {}, created_at: '' };
const FAST = { ...SESSION_TIMES, renewMs: 100, lookMs: 100, againMs: 100 };
const OWNER = 'key_0123456789abcdef01234567';

let redisServer: RealRedis;
let redis: Redis;
let folder: string;
let pool: TrainerPool;
let store: TrainingSessionStore;
let adapters: BundleStore;
let snapshots: BundleStore;
let server: TrainingSessionServer;
let stop: () => Promise<void>;

beforeEach(async () => {
  await access(COMPILED_TRAINER.file).catch(() => expect.fail('The worker is not compiled: run `pnpm build` first.'));
  redisServer = await startRealRedis();
  redis = new Redis(redisServer.url, { maxRetriesPerRequest: null });
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-serve-sessions-'));
  for (const name of ['tiny', 'other']) await writeTinyLlama(path.join(folder, 'models', name));
  adapters = await openBundleStore({ root: path.join(folder, 'data'), kind: 'adapters' });
  snapshots = await openBundleStore({ root: path.join(folder, 'data'), kind: 'snapshots' });
  store = new TrainingSessionStore({ redis, prefix: redisServer.prefix });
  pool = new TrainerPool({
    ...DEFAULT_POOL_TIMES,
    jobsAtOnce: 2,
    // The machine is not measured.
    precisionOf: (setting) => (setting === 'auto' ? 'float32' : setting),
    start: () => startTrainer({ program: COMPILED_TRAINER, limits: DEFAULT_TRAINER_LIMITS, onLine: () => {} }),
  });
  await store.beginSession(SESSION, OWNER, CLIENT);
});
afterEach(async () => {
  await stop();
  store.close();
  await pool.close();
  await redis.quit();
  await redisServer.stop();
  await rm(folder, { recursive: true, force: true });
});

function serve(times: Partial<SessionTimes> = {}): void {
  server = new TrainingSessionServer({ redis, prefix: redisServer.prefix, workerName: 'w' });
  stop = serveSessions({
    ...{ server, pool, adapters, snapshots, machine: null },
    models: localModels(path.join(folder, 'models')),
    weightDigests: path.join(folder, 'digests'),
    log: pino({ level: 'silent' }),
    times: { ...FAST, ...times },
  });
}

const SPEC = { base_model: 'tiny', rank: 4, seed: 1, train_attn: true, train_mlp: true, train_unembed: true };

async function begin(id = MODEL, changes: Partial<TrainedModelRecord> = {}, spec: Partial<typeof SPEC> = {}) {
  const record = { spec: { ...SPEC, ...spec }, initial: null, user_metadata: {}, ...changes };
  expect(await store.beginModel(id, { session: SESSION, owner: OWNER, record })).toBe('created');
}

function row(...ids: number[]): ForwardBackwardOp {
  const [tokens, targets] = [Int32Array.from(ids.slice(0, -1)), Int32Array.from(ids.slice(1))];
  const data = [{ tokens, targets, targetsEach: 1, fields: { weights: new Float32Array(tokens.length).fill(1) } }];
  return { kind: 'forward-backward', loss: 'cross_entropy', settings: {}, isForwardOnly: false, data };
}
const ROW = row(5, 9, 14, 3, 77);
const STEP: OptimizerStepOp = {
  kind: 'optimizer-step',
  ...{ learning_rate: 0.01, beta1: 0.9, beta2: 0.95, eps: 1e-12, weight_decay: 0, grad_clip_norm: 0 },
};
const saveOf = (adapter: AdapterId, name: string): QueuedSessionOp => ({
  kind: 'save-checkpoint',
  ...{ adapter, checkpoint: { kind: 'weights', name }, withOptimizer: true, expires_at: null, user_metadata: {} },
});

async function resultOf(seq: number, id = MODEL): Promise<QueuedSessionResult> {
  const state = await store.call(id, seq, 60_000, new AbortController().signal);
  return state.kind === 'done' ? state.result : expect.fail(`${id}:${seq} ${JSON.stringify(state)}`);
}

/** Sends ops, the last of them first, and returns their results. */
async function doOps(ops: readonly QueuedSessionOp[], first = 1, id = MODEL): Promise<QueuedSessionResult[]> {
  for (const [at, op] of [...ops.entries()].reverse()) expect(await store.submit(id, first + at, op)).toBe('added');
  return await Promise.all(ops.map((_, at) => resultOf(first + at, id)));
}

const lossesOf = (results: readonly QueuedSessionResult[]) =>
  results.flatMap((result) => (result.kind === 'forward-backward' ? [result.metrics['loss:sum']!] : []));

test('ops that arrive in any order are done in that of their numbers, and a saved state is an adapter that is continued', async () => {
  serve();
  await begin();
  expect(await resultOf(0)).toMatchObject({ kind: 'opened', described: { precision: 'float32', vocabularySize: 160 } });
  const adapter = 'ad_000000000000000000000001';
  const results = await doOps([ROW, STEP, ROW, STEP, saveOf(adapter, 'two'), ROW, STEP, ROW]);
  const losses = lossesOf(results);
  expect(losses).toHaveLength(4);
  expect(losses).toEqual([...losses].sort((one, other) => other - one));
  expect(results[4]).toMatchObject({ kind: 'saved', steps: 2 });
  expect(await store.checkpoints(MODEL)).toMatchObject([{ kind: 'weights', name: 'two', adapter, base_model: 'tiny' }]);
  const manifest = await readManifest(adapters, adapter);
  expect(manifest).toMatchObject({
    owner: OWNER,
    name: 'two',
    origin: {
      kind: 'session',
      model: MODEL,
      checkpoint: 'weights/two',
      steps: 2,
      optimizer: { name: 'optimizer.safetensors' },
    },
  });
  expect(manifest.files.map(({ name }) => name)).not.toContain('optimizer.safetensors');

  // Continued in another model, with the optimizer, it goes the same way.
  await begin(`${SESSION}:train:1`, { initial: { adapter, withOptimizer: true, path: 'x' } });
  expect(lossesOf(await doOps([ROW, STEP, ROW], 1, `${SESSION}:train:1`))).toEqual(losses.slice(2));
  // Loaded into the first one, too.
  const again = await doOps([{ kind: 'load', adapter, withOptimizer: true, path: 'x' }, ROW, STEP, ROW], 9);
  expect(lossesOf(again)).toEqual(losses.slice(2));
});

test('a call that fails has a result, and the next ones are done', async () => {
  serve({ sliceMs: 100 });
  await begin();
  const [wrong, missing, right] = await doOps([
    row(5, 160, 1),
    { kind: 'load', adapter: 'ad_00000000000000000000000f', withOptimizer: false, path: 'x' },
    ROW,
  ]);
  expect(wrong).toMatchObject({ kind: 'failed', category: 'user', message: expect.stringContaining('160') });
  expect(missing).toMatchObject({ kind: 'failed', category: 'user', code: 'adapter_not_found' });
  expect(right).toMatchObject({ kind: 'forward-backward' });
  await begin('one:train:9', {}, { base_model: 'nowhere' });
  expect(await resultOf(0, 'one:train:9')).toMatchObject({ kind: 'failed', category: 'user', code: 'model_not_found' });
  expect((await store.model('one:train:9'))?.state).toBe('ended');
});

test('a model without calls is parked, and continued from there to the bit, with the gradient of before', async () => {
  serve();
  await begin();
  const straight = lossesOf(await doOps([ROW, STEP, ROW, row(7, 8, 9), STEP, ROW]));
  await stop();
  // The first is parked by its worker's end.
  expect(await store.model(MODEL)).toMatchObject({ state: 'parked', done: 6 });
  const [kept] = await snapshots.list();
  expect(await readSnapshot(snapshots, kept as SnapshotId)).toMatchObject({ model: MODEL, precision: 'float32' });

  serve({ idleMs: 50 });
  const id = `${SESSION}:train:1`;
  await begin(id);
  const parked = lossesOf(await doOps([ROW, STEP, ROW], 1, id));
  await expect.poll(async () => (await store.model(id))?.state, { timeout: 20_000 }).toBe('parked');
  const rest = lossesOf(await doOps([row(7, 8, 9), STEP, ROW], 4, id));
  expect([...parked, ...rest]).toEqual(straight);
  await expect.poll(async () => (await store.model(id))?.state, { timeout: 20_000 }).toBe('parked');
  // One for each model: that before is removed once the model has the new one.
  await expect.poll(async () => (await snapshots.list()).length, { timeout: 20_000 }).toBe(2);

  await store.endSession(SESSION, 'over');
  expect(await endSilentSessions(server, snapshots)).toBe(2);
  expect(await snapshots.list()).toEqual([]);
});

test('a model of another base gets its turn, and the first goes on after it', async () => {
  serve({ sliceMs: 100, idleMs: 60_000 });
  await begin();
  const [before] = lossesOf(await doOps([ROW, STEP]));
  const id = `${SESSION}:train:1`;
  await begin(id, {}, { base_model: 'other' });
  const training = (async () => {
    const losses: number[] = [];
    for (let seq = 3; seq < 60; seq++) losses.push(...lossesOf(await doOps([ROW], seq)));
    return losses;
  })();
  expect(await resultOf(0, id)).toMatchObject({ kind: 'opened', described: { base_model: { name: 'other' } } });
  const losses = await training;
  expect(losses[0]).toBeLessThan(before!);
  expect(new Set(losses).size).toBe(1);
}, 120_000);

test('an ended trainer is told as what it is; what was not begun goes on in the next', async () => {
  serve();
  await begin();
  await resultOf(0);
  process.kill(pool.trainerPid!, 'SIGKILL');
  // Nothing was done, so nothing is lost.
  await expect.poll(async () => (await store.model(MODEL))?.state, { timeout: 20_000 }).toBe('parked');
  expect(lossesOf(await doOps([ROW, STEP]))).toHaveLength(1);
  process.kill(pool.trainerPid!, 'SIGKILL');
  await expect.poll(async () => (await store.model(MODEL))?.state, { timeout: 20_000 }).toBe('ended');
  expect(await store.call(MODEL, 3, 0, new AbortController().signal)).toMatchObject({
    kind: 'ended',
    reason: expect.stringContaining('Create a training client from the last saved state.'),
  });
});

test('the end of a session frees its models, and snapshots that nobody knows are removed once they are old', async () => {
  serve();
  await begin();
  const snapshot: SnapshotId = 'sn_000000000000000000000001';
  await store.addSnapshot(SESSION, snapshot);
  const sampler = { id: 's', owner: OWNER, session: SESSION, base_model: 'tiny', weights: snapshot, model_path: null };
  expect(await doOps([ROW, { kind: 'save-snapshot', snapshot, sampler } as const])).toMatchObject([
    { kind: 'forward-backward', targetsEach: [1] },
    { kind: 'snapshot-saved', sampler: 's' },
  ]);
  expect(await store.sampler(SESSION, 's')).toEqual(sampler);
  const never = new AbortController().signal;
  expect(await removeLostSnapshots(server, snapshots, never)).toBe(0);
  await store.endSession(SESSION, 'over');
  const isHeld = async () => (await redis.keys(`${redisServer.prefix}*claim*`)).length > 0;
  await expect.poll(isHeld, { timeout: 10_000 }).toBe(false);
  expect(await endSilentSessions(server, snapshots)).toBe(1);
  await sleep(10);
  expect(pool.generatableModel()).toEqual({ baseModel: null });
});
