import { createClient, type SessionRow, type TrainingSession } from '@lorasmith/client';
import type { QueuedSessionOp } from '@lorasmith/contracts';
import { TrainingSessionServer } from '@lorasmith/queue';
import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { OPENED } from './opened-session.js';
import { type RealApi, startRealApi } from './real-api.js';

// The session of the TypeScript client with a real api. The test has the worker's side of the queue.

let server: RealRedis;
let redis: Redis;
let api: RealApi;
let worker: TrainingSessionServer;
let baseUrl: string;
let claimed: NonNullable<Awaited<ReturnType<TrainingSessionServer['claim']>>>;
let session: TrainingSession;
let round = 0;
/** Patience with a busy machine. */
const PATIENCE = { timeout: 120_000, interval: 20 };
/** Answers that are lost on their way. */
let lost: string[] = [];

const unreliable: typeof fetch = async (url, init) => {
  const response = await fetch(url, init);
  const at = lost.findIndex((path) => String(url).endsWith(path));
  if (at === -1) return response;
  lost.splice(at, 1);
  await response.body?.cancel();
  throw new TypeError('The connection was lost.');
};

beforeAll(async () => {
  server = await startRealRedis();
  redis = new Redis(server.url);
});
afterAll(async () => {
  await redis.quit();
  await server.stop();
});
beforeEach(async () => {
  const prefix = `${server.prefix}loop-${round++}:`;
  api = await startRealApi({ redisUrl: server.url, prefix });
  worker = new TrainingSessionServer({ redis, prefix, workerName: 'w' });
  baseUrl = await api.app.listen({ host: '127.0.0.1', port: 0 });
  const client = createClient({ baseUrl, fetch: unreliable });
  const opening = client.createTrainingSession({ base_model: 'tiny-llama', rank: 4, seed: 1 });
  claimed = await vi.waitUntil(async () => await worker.claim(null), PATIENCE);
  await claimed.end(0, OPENED);
  session = await opening;
});
afterEach(async () => {
  await session.close();
  worker.close();
  await api.stop();
});

async function opOf(number: number): Promise<QueuedSessionOp> {
  return await vi.waitUntil(async () => await claimed.op(number), PATIENCE);
}

/** Does a forward-backward: a loss of 1 and the number of the row as the log-probability of each of its positions. */
async function answer(number: number): Promise<QueuedSessionOp> {
  const op = await opOf(number);
  if (op.kind !== 'forward-backward') throw new Error(op.kind);
  const logProbabilities = op.data.map(({ tokens }, row) => new Float32Array(tokens.length).fill(-row));
  const metrics = { 'loss:sum': 1, 'tokens:sum': op.data.length };
  await claimed.end(number, { kind: 'forward-backward', logProbabilities, metrics, targetsEach: op.data.map(() => 1) });
  return op;
}

const ROW: SessionRow = { tokens: [1, 2], targets: [2, 3], inputs: { weights: [0, 0.5] } };

test('calls that follow each other without waiting are done in their order', async () => {
  const loss = session.forwardBackward([ROW]);
  const step = session.optimStep({ learning_rate: 0.5, weight_decay: 0.1 });
  expect(await answer(1)).toMatchObject({
    ...{ loss: 'cross_entropy', settings: {}, isForwardOnly: false },
    data: [{ tokens: Int32Array.of(1, 2), targets: Int32Array.of(2, 3), targetsEach: 1 }],
  });
  expect(await opOf(2)).toMatchObject({ kind: 'optimizer-step', learning_rate: 0.5, beta2: 0.95, weight_decay: 0.1 });
  expect(await loss).toMatchObject({ loss: 1, logprobs: [new Float32Array(2).fill(-0)] });
  await claimed.end(2, { kind: 'optimizer-step', metrics: { 'grad_norm:mean': 3 } });
  expect(await step).toEqual({ gradient_norm: 3 });
});

test('rows beyond one call are several calls, whose results are one', async () => {
  const result = session.forward(Array.from({ length: 1_100 }, () => ROW));
  const ops = [await answer(1), await answer(2)];
  expect(ops.map((op) => op.kind === 'forward-backward' && [op.data.length, op.isForwardOnly])).toEqual([
    [1_024, true],
    [76, true],
  ]);
  const { loss, logprobs, metrics } = await result;
  expect([loss, logprobs.length, metrics['tokens:sum']]).toEqual([2, 1_100, 1_100]);
  expect(logprobs.at(-1)).toEqual(new Float32Array(2).fill(-75));
});

test('a loss of the program becomes weights', async () => {
  const result = session.forwardBackwardCustom([ROW], ([logprobs]) => ({
    loss: 7,
    gradients: [Array.from(logprobs!, (_, i) => i - 0.25)],
  }));
  const plain = await answer(1);
  const weighted = await answer(2);
  expect(plain).toMatchObject({ isForwardOnly: true, data: [{ fields: {} }] });
  expect(weighted).toMatchObject({
    isForwardOnly: false,
    data: [{ fields: { weights: Float32Array.of(0.25, -0.75) } }],
  });
  expect((await result).loss).toBe(7);
});

test('an answer that is lost has the call sent again, which is done once', async () => {
  lost = ['/optim_step', '/retrieve_future'];
  const steps = [session.optimStep({ learning_rate: 1 }), session.optimStep({ learning_rate: 2 })];
  for (const number of [1, 2]) {
    expect(await opOf(number)).toMatchObject({ kind: 'optimizer-step', learning_rate: number });
    await claimed.end(number, { kind: 'optimizer-step', metrics: { 'grad_norm:mean': number } });
  }
  expect(await Promise.all(steps)).toEqual([{ gradient_norm: 1 }, { gradient_norm: 2 }]);
  expect(await claimed.op(3)).toBeNull();
  expect(lost).toEqual([]);
});

test('a call that is refused leaves no gap: as a result, or, where nothing of it could be read, with its number', async () => {
  const tooLong = new Int32Array(5 * 2 ** 20);
  await expect(session.forward([{ tokens: tooLong, targets: tooLong }])).rejects.toMatchObject({ status: 413 });
  const refused = session.optimStep({ learning_rate: -1 });
  const op = await opOf(1);
  if (op.kind !== 'refused') throw new Error(op.kind);
  await claimed.end(1, op.failure);
  await expect(refused).rejects.toMatchObject({
    code: 'invalid_request',
    message: expect.stringContaining('learning_rate'),
  });
  const forward = session.forward([ROW]);
  await answer(2);
  expect((await forward).loss).toBe(1);
});

test('rows whose sizes disagree are refused before anything is sent', async () => {
  const refusals: [SessionRow, string][] = [
    [{ tokens: [], targets: [] }, 'Row 0 has 0 tokens'],
    [{ tokens: [1, 2], targets: [1, 2, 3] }, '2 tokens and 3 targets'],
    [{ tokens: [1], targets: [1], inputs: { weights: [1, 2] } }, '2 of weights'],
  ];
  for (const [row, message] of refusals) {
    await expect(session.forwardBackward([row])).rejects.toMatchObject({
      code: 'invalid_request',
      message: expect.stringContaining(message),
    });
  }
  await expect(session.forwardBackward([])).rejects.toMatchObject({ message: 'There are no rows.' });
  expect(await claimed.op(1)).toBeNull();
});

test('what is in work ends when the session is closed, and the service is told', async () => {
  const step = expect(session.optimStep()).rejects.toMatchObject({ code: 'cancelled' });
  await opOf(1);
  await session.close();
  await step;
  await expect(session.optimStep()).rejects.toMatchObject({ code: 'cancelled' });
  await expect(session.samplerOf({ base_model: 'tiny-llama' })).rejects.toMatchObject({ code: 'cancelled' });
  expect(await claimed.renew()).toBe('ended');
});
