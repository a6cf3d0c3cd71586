import { access, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { ForwardBackwardOp, NewJobEvent, OptimizerStepOp, SessionOp } from '@lorasmith/contracts';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { SessionOrder, TrainOrder } from '../src/trainer/messages.js';
import { DEFAULT_TRAINER_LIMITS, startTrainer, type TrainerProcess } from '../src/trainer/trainer-process.js';
import type { OpenSession } from '../src/trainer/trainer-session.js';
import { aTinyTrainOrder, COMPILED_TRAINER } from './compiled-trainer.js';

// Sessions of the compiled trainer.

let folder: string;
let trainer: TrainerProcess;
let lines: string[];
let train: TrainOrder;
beforeEach(async () => {
  await access(COMPILED_TRAINER.file).catch(() => expect.fail('The worker is not compiled: run `pnpm build` first.'));
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-sessions-'));
  train = await aTinyTrainOrder(folder, 3);
  lines = [];
  trainer = startTrainer({
    program: COMPILED_TRAINER,
    limits: DEFAULT_TRAINER_LIMITS,
    onLine: (line) => lines.push(line),
  });
});
afterEach(async () => {
  await trainer.end();
  await rm(folder, { recursive: true, force: true });
});

const orderOf = (changes: Partial<SessionOrder> = {}): SessionOrder => ({
  kind: 'session',
  spec: { base_model: 'tiny-llama', rank: 4, seed: 1, train_attn: true, train_mlp: true, train_unembed: true },
  modelFolder: train.paths.modelFolder,
  precision: train.spec.training.precision,
  machine: null,
  weightDigests: train.weightDigests,
  share: train.share,
  ...changes,
});

const never = () => new AbortController().signal;

async function open(changes?: Partial<SessionOrder>, signal = never()): Promise<OpenSession> {
  const opened = await trainer.openSession(orderOf(changes), { signal });
  return opened.kind === 'open' ? opened.session : expect.fail(JSON.stringify(opened));
}

function forwardBackward(...ids: number[]): ForwardBackwardOp {
  const [tokens, targets] = [Int32Array.from(ids.slice(0, -1)), Int32Array.from(ids.slice(1))];
  const data = [{ tokens, targets, targetsEach: 1, fields: { weights: new Float32Array(tokens.length).fill(0.5) } }];
  return { kind: 'forward-backward', loss: 'cross_entropy', settings: {}, isForwardOnly: false, data };
}

const STEP: OptimizerStepOp = {
  kind: 'optimizer-step',
  ...{ learning_rate: 0.01, beta1: 0.9, beta2: 0.95, eps: 1e-12, weight_decay: 0, grad_clip_norm: 0 },
};

/** The loss of an op, once the session has done it. */
async function lossOf(session: OpenSession, op: SessionOp): Promise<number> {
  const result = await session.do(op);
  return result.kind === 'forward-backward' ? result.metrics['loss:sum']! : expect.fail(JSON.stringify(result));
}

test('a session trains beside another and a job, in the order of its ops', async () => {
  const events: NewJobEvent[] = [];
  const job = trainer.run(train, { signal: never(), recycle: never(), onEvent: (event) => events.push(event) });
  const [one, other] = await Promise.all([open(), open({ spec: { ...orderOf().spec, rank: 2 } })]);
  expect(one.described).toMatchObject({ base_model: { name: 'tiny-llama' }, maxTokens: 256, vocabularySize: 160 });
  const op = forwardBackward(5, 9, 14, 3, 77);
  const losses = await Promise.all([
    ...[op, STEP, op, STEP, op].map((each) => one.do(each)),
    ...[op, STEP, op].map((each) => other.do(each)),
  ]);
  const sums = losses.flatMap((result) => (result.kind === 'forward-backward' ? [result.metrics['loss:sum']!] : []));
  expect(sums).toHaveLength(5);
  expect(sums[1]!).toBeLessThan(sums[0]!);
  expect(sums[2]!).toBeLessThan(sums[1]!);
  expect(sums[3]).toBe(sums[0]);
  const first = losses[0]!;
  // Typed arrays stay typed arrays.
  expect(first.kind === 'forward-backward' && first.logProbabilities[0]).toBeInstanceOf(Float32Array);
  expect((await job).outcome.kind).toBe('finished');
  await Promise.all([one.close(), other.close()]);
  expect(await one.ended).toEqual({ kind: 'closed' });
  expect(await one.do(op)).toMatchObject({ kind: 'failed', category: 'server', code: 'cancelled' });
  expect(trainer.usable).toBe(true);
});

test('says whose fault a failed op is, and goes on after it', async () => {
  const session = await open();
  const op = forwardBackward(5, 9, 14);
  expect(await session.do(forwardBackward(5, 160, 1))).toMatchObject({
    kind: 'failed',
    category: 'user',
    code: 'invalid_request',
    message: expect.stringContaining('160'),
  });
  const nowhere: SessionOp = {
    kind: 'save',
    folder: '/nowhere/at/all',
    withOptimizer: true,
    withGradient: false,
    isEphemeral: true,
  };
  expect(await session.do(nowhere)).toMatchObject({ kind: 'failed', category: 'server' });
  expect(await lossOf(session, op)).toBeGreaterThan(0);
  const saved = path.join(folder, 'saved');
  await mkdir(saved);
  expect(await session.do({ ...nowhere, folder: saved, isEphemeral: false })).toMatchObject({
    kind: 'saved',
    outcome: { steps: 0, optimizerFile: { name: 'optimizer.safetensors' }, checked: { checks: {} } },
  });
});

test('a session that cannot be opened says why, and other sessions go on', async () => {
  const session = await open({ precision: 'float32' });
  const nothing = { ...orderOf().spec, train_attn: false, train_mlp: false, train_unembed: false };
  expect(await trainer.openSession(orderOf({ spec: nothing }), { signal: never() })).toMatchObject({
    kind: 'failed',
    failure: { code: 'invalid_job' },
  });
  expect(await trainer.openSession(orderOf({ precision: 'bfloat16' }), { signal: never() })).toMatchObject({
    kind: 'deferred',
    why: expect.stringContaining('float32'),
  });
  expect(await lossOf(session, forwardBackward(1, 2, 3))).toBeGreaterThan(0);
});

test('closed while it is being opened, or while it computes, it ends with its ops cancelled', async () => {
  const closing = new AbortController();
  const opening = trainer.openSession(orderOf(), { signal: closing.signal });
  closing.abort();
  // It may have been open before it heard of that.
  const opened = await opening;
  if (opened.kind === 'open') expect(await opened.session.ended).toEqual({ kind: 'closed' });
  else expect(opened).toEqual({ kind: 'closed' });

  const session = await open();
  const long = Array.from({ length: 256 }, (_, i) => i % 160);
  const ops = Array.from({ length: 40 }, () => session.do(forwardBackward(...long)));
  await session.close();
  const results = await Promise.all(ops);
  expect(results.at(-1)).toMatchObject({ kind: 'failed', category: 'server', code: 'cancelled' });
  expect(trainer.usable).toBe(true);
});

test('its ops fail when the trainer dies, with the reason', async () => {
  const session = await open();
  const long = Array.from({ length: 256 }, (_, i) => i % 160);
  const op = session.do(forwardBackward(...long));
  process.kill(trainer.pid!, 'SIGKILL');
  const lost = { kind: 'failed', category: 'server', code: 'out_of_memory' };
  expect(await op).toMatchObject({ ...lost, message: expect.stringMatching(/The session is lost: .*memory ran out/) });
  expect(await session.ended).toMatchObject({ kind: 'failed', failure: { code: 'out_of_memory' } });
  expect(await session.do(STEP)).toMatchObject(lost);
  await session.close();
});
