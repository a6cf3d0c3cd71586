import type { AdapterId, OptimizerStepOp, QueuedSessionResult, SnapshotId } from '@lorasmith/contracts';
import { afterEach, beforeEach, expect, test } from 'vitest';
import {
  type ClaimedModel,
  type SessionCheckpoint,
  TrainingSessionServer,
  TrainingSessionStore,
  WORKER_LOST,
} from '../src/index.js';
import { sessionKeys } from '../src/keys.js';
import { prefix, redis, useJobStore } from './real-job-store.js';

useJobStore();

const OWNER = 'key_0123456789abcdef01234567';
const SESSION = 'one';
const MODEL = `${SESSION}:train:0`;
const SNAPSHOT: SnapshotId = 'sn_0123456789abcdef01234567';
const NEVER = new AbortController().signal;
const RECORD = {
  tags: [],
  sdk_version: null,
  project_id: null,
  user_metadata: {},
  created_at: new Date(0).toISOString(),
};
const SPEC = { base_model: 'tiny', rank: 4, seed: 1, train_attn: true, train_mlp: true, train_unembed: true };
const OPENED: QueuedSessionResult = {
  kind: 'opened',
  described: {
    base_model: { name: 'tiny', family: 'llama', weights_sha256: 'a', architecture_sha256: 'b', quantization: null },
    ...{ precision: 'float32', maxTokens: 8, vocabularySize: 9, parameters: 10, modules: ['lm_head'] },
  },
};
const step = (learning_rate: number): OptimizerStepOp => ({
  ...{ kind: 'optimizer-step', learning_rate, beta1: 0.9, beta2: 0.95, eps: 1e-12, weight_decay: 0, grad_clip_norm: 0 },
});
const stepped = (norm: number): QueuedSessionResult => ({
  kind: 'optimizer-step',
  metrics: { 'grad_norm:mean': norm },
});

let store: TrainingSessionStore;
let server: TrainingSessionServer;
beforeEach(() => {
  store = new TrainingSessionStore({ redis, prefix });
  server = new TrainingSessionServer({ redis, prefix, workerName: 'w' });
});
afterEach(() => {
  store.close();
  server.close();
});

async function begin(id = MODEL, base = 'tiny') {
  const record = { spec: { ...SPEC, base_model: base }, initial: null, user_metadata: {} };
  return await store.beginModel(id, { session: SESSION, owner: OWNER, record });
}

async function openOne(): Promise<ClaimedModel> {
  await store.beginSession(SESSION, OWNER, RECORD);
  await begin();
  const claimed = (await server.claim(null))!;
  expect(await claimed.end(0, OPENED)).toBe('done');
  return claimed;
}

/** The claim of a worker ends, as if it had died. */
const claimEnds = () => redis.del(sessionKeys(prefix).claim(MODEL));
const now = (seq: number) => store.call(MODEL, seq, 0, NEVER);

test('a model is created once, waits for a worker of its base, and is taken by one', async () => {
  expect(await begin()).toBe('gone');
  expect(await store.beginSession(SESSION, OWNER, RECORD)).toBe(true);
  expect(await Promise.all([begin(), begin()])).toEqual(['created', 'exists']);
  await begin(`${SESSION}:train:1`, 'other');
  expect(await server.claim('third')).toBeNull();
  expect((await server.claim('other'))!.model.id).toBe(`${SESSION}:train:1`);
  const claims = await Promise.all([server.claim(null), server.claim('tiny')]);
  expect(claims.filter((claim) => claim !== null).map(({ model }) => model)).toMatchObject([{ id: MODEL, done: -1 }]);
  expect(await store.model(MODEL)).toMatchObject({
    owner: OWNER,
    session: SESSION,
    record: { spec: SPEC },
    state: 'open',
  });
  expect(await store.modelsOf(OWNER)).toEqual([`${SESSION}:train:1`, MODEL]);
  expect(await store.modelsOf(null)).toEqual([]);
});

test('ops that come out of order, and more than once, are each done once, and their results may be fetched again', async () => {
  const claimed = await openOne();
  expect(await store.submit(MODEL, 2, step(2))).toBe('added');
  expect(await claimed.op(1)).toBeNull();
  expect(await Promise.all([store.submit(MODEL, 1, step(1)), store.submit(MODEL, 1, step(1))])).toEqual([
    'added',
    'exists',
  ]);
  expect(await claimed.op(1)).toEqual(step(1));
  const waiting = store.call(MODEL, 1, 60_000, NEVER);
  expect(await claimed.end(1, stepped(0.5))).toBe('done');
  expect(await waiting).toEqual({ kind: 'done', result: stepped(0.5) });
  expect(await store.submit(MODEL, 1, step(1))).toBe('exists');
  expect(await claimed.op(1)).toBeNull();
  expect(await now(1)).toEqual({ kind: 'done', result: stepped(0.5) });
  expect(await now(2)).toEqual({ kind: 'waiting', state: 'open' });
  expect(await now(3)).toEqual({ kind: 'waiting', state: 'open' });
  expect(await store.call('two:train:0', 1, 60_000, NEVER)).toEqual({ kind: 'unknown' });
  expect(await store.submit('two:train:0', 1, step(1))).toBe('unknown');
});

test('typed arrays arrive as they were sent', async () => {
  const claimed = await openOne();
  const op = {
    ...({ kind: 'forward-backward', loss: 'cross_entropy', settings: {}, isForwardOnly: false } as const),
    data: [
      {
        tokens: Int32Array.of(1, 2),
        targets: Int32Array.of(2, 3),
        targetsEach: 1,
        fields: { weights: Float32Array.of(-1, Number.NaN) },
      },
    ],
  };
  await store.submit(MODEL, 1, op);
  expect(await claimed.op(1)).toEqual(op);
  const result: QueuedSessionResult = {
    kind: 'forward-backward',
    logProbabilities: [Float32Array.of(-1, -2)],
    metrics: { 'loss:sum': 3 },
    targetsEach: [1],
  };
  await claimed.end(1, result);
  expect(await now(1)).toEqual({ kind: 'done', result });
});

test('no more ops wait than there may', async () => {
  await openOne();
  const submitted = await Promise.all(Array.from({ length: 1_001 }, (_, at) => store.submit(MODEL, at + 1, step(at))));
  expect(submitted.filter((one) => one === 'added')).toHaveLength(1_000);
  expect(submitted.at(-1)).toBe('full');
});

test('a model whose worker dies before it was trained is opened again; later it is lost, and its client is told', async () => {
  await store.beginSession(SESSION, OWNER, RECORD);
  await begin();
  const first = (await server.claim(null))!;
  await claimEnds();
  expect(await now(0)).toEqual({ kind: 'waiting', state: 'waiting' });
  const second = (await server.claim(null))!;
  expect(await first.end(0, OPENED)).toBe('lost');
  expect(await first.renew()).toBe('lost');
  expect(await second.renew()).toBe('ok');
  await second.end(0, OPENED);
  await store.submit(MODEL, 1, step(1));
  await second.end(1, stepped(1));
  await store.submit(MODEL, 2, step(2));
  await claimEnds();
  expect(await now(2)).toEqual({ kind: 'ended', reason: WORKER_LOST });
  expect(await now(1)).toEqual({ kind: 'done', result: stepped(1) });
  expect(await store.submit(MODEL, 3, step(3))).toBe('ended');
  expect(await server.claim(null)).toBeNull();
});

test('a model that is given back waits for its next op, and continues from its snapshot', async () => {
  const first = await openOne();
  expect(await first.giveBack(SNAPSHOT)).toBeNull();
  expect(await first.renew()).toBe('lost');
  expect(await now(1)).toEqual({ kind: 'waiting', state: 'parked' });
  expect(await server.claim(null)).toBeNull();
  await store.submit(MODEL, 2, step(2));
  expect(await server.claim(null)).toBeNull();
  await store.submit(MODEL, 1, step(1));
  const second = (await server.claim(null))!;
  expect(second.model).toMatchObject({ parked: SNAPSHOT, done: 0, described: null });
  // Nothing was done since: where the worker dies, another one continues.
  await claimEnds();
  expect(await now(1)).toEqual({ kind: 'waiting', state: 'waiting' });
  const third = (await server.claim(null))!;
  await third.end(1, stepped(1));
  const other = 'sn_765432100123456789abcdef';
  expect(await third.giveBack(other)).toBe(SNAPSHOT);
  expect((await server.claim(null))!.model).toMatchObject({ parked: other, done: 1 });
});

test('a session that ends, or whose client is silent, ends its models, and its snapshots are removed', async () => {
  const claimed = await openOne();
  await store.submit(MODEL, 1, step(1));
  expect(await store.addSnapshot(SESSION, SNAPSHOT)).toEqual([]);
  expect(await store.beat(SESSION)).toBe(true);
  await server.endSilent();
  expect(await claimed.renew()).toBe('ok');
  await redis.zadd(sessionKeys(prefix).beats, Date.now() - 301_000, SESSION);
  await server.endSilent();
  expect(await store.beat(SESSION)).toBe(false);
  expect(await claimed.renew()).toBe('ended');
  expect(await claimed.op(1)).toBeNull();
  expect(await now(1)).toMatchObject({ kind: 'ended', reason: expect.stringContaining('five minutes') });
  const removed: string[] = [];
  const clean = () => server.clean(async (snapshot) => void removed.push(snapshot));
  await clean();
  // Its worker has it still.
  expect(removed).toEqual([]);
  expect(await claimed.giveBack(SNAPSHOT)).toBe(SNAPSHOT);
  await clean();
  expect(removed).toEqual([SNAPSHOT]);
  expect(await store.session(SESSION)).toBeNull();
});

test('of many snapshots of a session the oldest are to be removed', async () => {
  await openOne();
  const ids = Array.from({ length: 18 }, (_, at) => `sn_${String(at).padStart(24, '0')}`);
  const surplus: string[][] = [];
  for (const id of ids) surplus.push(await store.addSnapshot(SESSION, id));
  expect(surplus.slice(0, 16).flat()).toEqual([]);
  expect(surplus.slice(16)).toEqual([[ids[0]], [ids[0], ids[1]]]);
});

test('what an api process does for a call is begun once, and its result is fetched elsewhere', async () => {
  const other = new TrainingSessionStore({ redis, prefix });
  try {
    expect(await store.beginOwn('s:sample:0:1')).toBe(true);
    expect(await other.beginOwn('s:sample:0:1')).toBe(false);
    expect(await other.ownResult('s:sample:0:1', 0, NEVER)).toEqual({ kind: 'running' });
    expect(await other.ownResult('s:sample:0:2', 0, NEVER)).toEqual({ kind: 'unknown' });
    const waiting = other.ownResult('s:sample:0:1', 60_000, NEVER);
    await store.endOwn('s:sample:0:1', Buffer.from([1, 0, 255]));
    expect(await waiting).toEqual({ kind: 'done', bytes: Buffer.from([1, 0, 255]) });
    expect(await other.beginOwn('s:sample:0:1')).toBe(false);
  } finally {
    other.close();
  }
});

const checkpointOf = (adapter: string, more: Partial<SessionCheckpoint> = {}): SessionCheckpoint => ({
  ...{ kind: 'weights', name: 'a', adapter: `ad_${adapter.repeat(24)}` as AdapterId, base_model: 'tiny' },
  ...{ created_at: new Date(0).toISOString(), expires_at: null, bytes: 1, public: false, user_metadata: {} },
  ...more,
});

test('a checkpoint that replaces another of its name lets the adapter of that expire', async () => {
  const claimed = await openOne();
  await claimed.writeCheckpoint(checkpointOf('1'));
  await claimed.writeCheckpoint(checkpointOf('1'));
  expect(await store.expired(9)).toEqual([]);
  await claimed.writeCheckpoint(checkpointOf('2'));
  expect(await store.checkpoints(MODEL)).toEqual([checkpointOf('2')]);
  const [old, ...others] = await store.expired(9);
  expect(others).toEqual([]);
  expect(await store.checkpoint(MODEL, old!)).toMatchObject({ adapter: checkpointOf('1').adapter });
  await store.forgetCheckpoint(MODEL, old!);
  expect(await store.expired(9)).toEqual([]);
  expect(await store.checkpoint(MODEL, checkpointOf('2'))).toEqual(checkpointOf('2'));
});

test('a checkpoint is changed only while it is as it was, so that none comes back that was removed', async () => {
  const claimed = await openOne();
  const one = checkpointOf('1');
  await claimed.writeCheckpoint(one);
  expect(await store.changeCheckpoint(MODEL, one, { public: true })).toBe(true);
  expect(await store.changeCheckpoint(MODEL, one, { expires_at: new Date(0).toISOString() })).toBe(false);
  const shared = { ...one, public: true };
  expect(await store.changeCheckpoint(MODEL, shared, { expires_at: new Date(0).toISOString() })).toBe(true);
  expect(await store.checkpoints(MODEL)).toEqual([]);
  expect(await store.expired(9)).toEqual([{ model: MODEL, kind: 'weights', name: 'a' }]);
  await store.forgetCheckpoint(MODEL, one);
  expect(await store.changeCheckpoint(MODEL, shared, { public: false })).toBe(false);
  expect(await store.checkpoint(MODEL, one)).toBeNull();
});

test('the record of a model stays as long as its checkpoints', async () => {
  const claimed = await openOne();
  await claimed.writeCheckpoint(checkpointOf('1'));
  await store.endSession(SESSION, 'over');
  const lifetime = () => redis.pttl(sessionKeys(prefix).model(MODEL));
  expect(await lifetime()).toBe(-1);
  await store.forgetCheckpoint(MODEL, checkpointOf('1'));
  expect(await lifetime()).toBeGreaterThan(0);
});

test('a copy has a model of its own, which has ended, and is added once', async () => {
  const copy = {
    ...({ owner: OWNER, session: 'two', record: { spec: SPEC, initial: null, user_metadata: {} } } as const),
    ...{ checkpoint: checkpointOf('3'), reason: 'a copy' },
  };
  await store.addCopy('two:train:0', copy);
  await store.addCopy('two:train:0', copy);
  expect(await store.modelsOf(OWNER)).toEqual(['two:train:0']);
  expect(await store.model('two:train:0')).toMatchObject({ owner: OWNER, state: 'ended', reason: 'a copy' });
  expect(await store.checkpoints('two:train:0')).toEqual([checkpointOf('3')]);
  expect(await store.submit('two:train:0', 1, step(1))).toBe('ended');
  expect(await server.claim(null)).toBeNull();
});
