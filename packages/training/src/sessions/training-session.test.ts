import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { OptimizerStepOp, SaveOp, SessionDatum, SessionModelSpec, SessionOp } from '@lorasmith/contracts';
import { JobDeferred } from '@lorasmith/contracts';
import type { TokenBatch } from '@lorasmith/models';
import { openExampleStore } from '@lorasmith/planning';
import { chooseKernels, liveTensorCount } from '@lorasmith/tensor';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { greatestDifference } from '../../../../test/numeric/greatest-difference.js';
import { writeTinyLlama } from '../../../../test/tiny-llama.js';
import { aJob, writeRows } from '../../test/a-job.js';
import { writeTinyClassifier } from '../../test/tiny-classifier.js';
import { trainAlone } from '../../test/train-alone.js';
import { BaseModelCache } from '../base-model-cache.js';
import { NextToken } from '../objectives/next-token/next-token.js';
import { PassScheduler } from '../shared-pass/pass-scheduler.js';
import { openSession, type SessionOptions } from './open-session.js';
import { SessionObjective } from './session-objective.js';
import type { TrainingSession } from './training-session.js';

const kernels = chooseKernels('fused');
const VOCABULARY = 160;

let root: string;
let modelFolder: string;
let folders = 0;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'sessions-'));
  modelFolder = join(root, 'tiny');
  await writeTinyLlama(modelFolder);
});
afterAll(async () => {
  await rm(root, { recursive: true });
});

const open: TrainingSession[] = [];
const cache = new BaseModelCache(kernels);
afterEach(async () => {
  for (const session of open.splice(0)) await session.close();
  cache.dispose();
});

const SPEC: SessionModelSpec = {
  base_model: 'tiny',
  rank: 4,
  seed: 3,
  train_attn: true,
  train_mlp: true,
  train_unembed: true,
};
const STEP: OptimizerStepOp = {
  kind: 'optimizer-step',
  ...{ learning_rate: 0.01, beta1: 0.9, beta2: 0.95, eps: 1e-12, weight_decay: 0, grad_clip_norm: 0 },
};

async function opened(spec: Partial<SessionModelSpec> = {}, options: Partial<SessionOptions> = {}) {
  const session = await openSession({
    spec: { ...SPEC, ...spec },
    modelFolder,
    precision: 'float32',
    machine: null,
    signal: new AbortController().signal,
    cache,
    ...options,
  });
  open.push(session);
  return session;
}

/** Tokens that differ by the seed, with the next one as the target of each. */
function datumOf(
  length: number,
  seed: number,
  fields: (i: number) => Record<string, number> = () => ({}),
): SessionDatum {
  const ids = Int32Array.from({ length: length + 1 }, (_, i) => (7 * i + i * i * seed + 11 * seed) % VOCABULARY);
  const names = Object.keys(fields(0));
  const values = (name: string) => Float32Array.from({ length }, (_, i) => fields(i)[name]!);
  return {
    tokens: ids.slice(0, -1),
    targets: ids.slice(1),
    targetsEach: 1,
    fields: Object.fromEntries(names.map((name) => [name, values(name)])),
  };
}

function forwardBackward(
  data: SessionDatum[],
  changes: Partial<Extract<SessionOp, { kind: 'forward-backward' }>> = {},
) {
  return {
    kind: 'forward-backward',
    loss: 'cross_entropy',
    settings: {},
    isForwardOnly: false,
    data,
    ...changes,
  } as const;
}

async function results(session: TrainingSession, op: ReturnType<typeof forwardBackward>) {
  const result = await session.do(op);
  if (result.kind !== 'forward-backward') throw new Error(result.kind);
  return result;
}

async function save(session: TrainingSession, changes: Partial<SaveOp> = {}) {
  const folder = join(root, `saved-${++folders}`);
  await mkdir(folder);
  const result = await session.do({
    ...{ kind: 'save' as const, folder, withOptimizer: false, withGradient: false, isEphemeral: true },
    ...changes,
  });
  if (result.kind !== 'saved') throw new Error(result.kind);
  const bytes = await readFile(join(folder, 'adapter_model.safetensors'));
  return { folder, outcome: result.outcome, digest: createHash('sha256').update(bytes).digest('hex') };
}

/** Two steps of the losses of sampled tokens, and of their likelihood. */
function opsOf(seed: number): SessionOp[] {
  const sampled = (i: number) => ({ logprobs: -1 - (i % 5) / 4, advantages: Math.sin(i + seed) });
  return [
    forwardBackward([datumOf(20, seed), datumOf(9, seed + 1, (i) => ({ weights: (i % 3) / 2 }))]),
    forwardBackward([datumOf(15, seed + 2, sampled), datumOf(30, seed + 3, sampled)], { loss: 'ppo' }),
    STEP,
    forwardBackward([datumOf(12, seed + 4, sampled)], { loss: 'importance_sampling' }),
    { ...STEP, weight_decay: 0.1, grad_clip_norm: 0.5 },
  ];
}

async function doAll(session: TrainingSession, ops: readonly SessionOp[]): Promise<void> {
  for (const op of ops) await session.do(op);
}

/** A batch of a job as the data of an op: the same stream, with the weight 1 / tokens at the labels of the job. */
function dataOfBatch({ ids, rowLengths, predictors, labels, places }: TokenBatch, tokens: number): SessionDatum[] {
  expect(places).toBeNull();
  const targets = new Int32Array(ids.length);
  const weights = new Float32Array(ids.length);
  for (const [label, predictor] of predictors.entries()) {
    targets[predictor] = labels[label]!;
    weights[predictor] = 1 / tokens;
  }
  let next = 0;
  return rowLengths.map((length) => {
    const [from, to] = [next, next + length];
    next = to;
    const of = { tokens: ids.slice(from, to), targets: targets.slice(from, to), targetsEach: 1 };
    return { ...of, fields: { weights: weights.slice(from, to) } };
  });
}

test('training by ops makes the bytes that the same job makes', async () => {
  const rowsFile = join(root, 'rows.jsonl');
  // Eight trained tokens each, 32 in a step, and nothing that rows share.
  const rows = Array.from('abcdefgh', (letter, i) => ({ text: `${letter}${i}-${letter}-${7 - i}${letter}+` }));
  const dataset = await writeRows(rowsFile, 'text', rows);
  const spec = aJob({
    lora: {
      r: 4,
      alpha: 32,
      target_modules: ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj', 'lm_head'],
    },
    training: {
      epochs: 3,
      lr_scheduler: 'constant',
      warmup_ratio: 0,
      precision: 'float32',
      base_quantization: 'none',
      seed: 3,
      max_grad_norm: 0.5,
    },
  });
  const batches: TokenBatch[] = [];
  const spy = vi.spyOn(NextToken.prototype, 'lossAndGradients');
  const outputFolder = join(root, 'job');
  await mkdir(outputFolder);
  await trainAlone(kernels, {
    ...{ spec, modelFolder, dataset, rowsFile, outputFolder, initialAdapterFolder: null },
    examples: await openExampleStore({ dataDir: join(root, 'data'), maxBytes: 2 ** 30 }),
    checkpointFolder: join(root, 'checkpoints'),
    signal: new AbortController().signal,
    onEvent: () => {},
  });
  batches.push(...spy.mock.calls.map(([batch]) => batch));
  spy.mockRestore();
  expect(batches.map(({ labels }) => labels.length)).toEqual(Array(12).fill(16));

  const session = await opened();
  for (const [index, batch] of batches.entries()) {
    await session.do(forwardBackward(dataOfBatch(batch, 32)));
    if (index % 2 === 0) continue;
    const settings = { learning_rate: 0.01, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, grad_clip_norm: 0.5 };
    await session.do({ ...STEP, ...settings });
  }
  const { digest, outcome } = await save(session, { isEphemeral: false });
  const ofJob = createHash('sha256').update(await readFile(join(outputFolder, 'adapter_model.safetensors')));
  expect(digest).toBe(ofJob.digest('hex'));
  expect(outcome).toMatchObject({ steps: 6, optimizerFile: null, lora: { r: 4, alpha: 32 } });
  expect(outcome.checked!.checks.logprobs).toBeGreaterThan(0);
});

describe('two sessions', () => {
  const SPECS = [{}, { rank: 2, seed: 9, train_unembed: false }];

  test('share passes, and have the bytes that each has alone', async ({ skip }) => {
    if (!kernels.rowsAreIndependent('float32')) skip('products of this processor depend on the number of rows');
    const alone: string[] = [];
    for (const [index, spec] of SPECS.entries()) {
      const session = await opened(spec);
      await doAll(session, opsOf(10 * index));
      alone.push((await save(session)).digest);
    }
    expect(new Set(alone).size).toBe(2);
    const scheduler = new PassScheduler();
    const joins = vi.spyOn(SessionObjective.prototype, 'join');
    const both = await Promise.all(SPECS.map((spec) => opened(spec, { scheduler })));
    await Promise.all(both.map((session, index) => doAll(session, opsOf(10 * index))));
    expect(joins).toHaveBeenCalled();
    joins.mockRestore();
    expect(await Promise.all(both.map(async (session) => (await save(session)).digest))).toEqual(alone);
  });
});

test('gives the log-probabilities of all positions in the order of the data, however it is cut', async () => {
  const session = await opened();
  const data = [datumOf(5, 1), datumOf(600, 2), datumOf(700, 3), datumOf(9, 4), datumOf(40, 5)].map((datum) => ({
    ...datum,
    // The model has 256 positions.
    tokens: datum.tokens.subarray(0, 200),
    targets: datum.targets.subarray(0, 200),
  }));
  const many = [...data, ...data, ...data];
  const found = await results(session, forwardBackward(many, { isForwardOnly: true }));
  expect(found.logProbabilities.map(({ length }) => length)).toEqual(many.map(({ tokens }) => tokens.length));
  for (const [index, datum] of many.entries()) {
    const own = await results(session, forwardBackward([datum], { isForwardOnly: true }));
    expect(greatestDifference(own.logProbabilities[0]!, found.logProbabilities[index]!)).toBeLessThan(1e-5);
  }
  const sum = found.logProbabilities.flatMap((one) => [...one]).reduce((total, one) => total - one, 0);
  expect(found.metrics['loss:sum']).toBeCloseTo(sum, 2);
  expect(found.metrics).toMatchObject({ 'tokens:sum': 3 * 454, 'trained_tokens:sum': 3 * 454 });
});

test('gradients add up until a step; a forward pass alone adds none, and a step without any changes nothing', async () => {
  const [first, second] = [datumOf(20, 1), datumOf(30, 2)];
  const before = await save(await opened());
  const session = await opened();
  await session.do(forwardBackward([first], { isForwardOnly: true }));
  expect(await session.do(STEP)).toEqual({ kind: 'optimizer-step', metrics: {} });
  expect((await save(session)).digest).toBe(before.digest);
  await doAll(session, [forwardBackward([first]), forwardBackward([second])]);
  const apart = (await session.do(STEP)) as { metrics: Record<string, number> };
  const together = await opened();
  await together.do(forwardBackward([first, second]));
  const joint = (await together.do(STEP)) as { metrics: Record<string, number> };
  const norms = [apart, joint].map(({ metrics }) => metrics['grad_norm:mean']!);
  expect(norms[0]! / norms[1]!).toBeCloseTo(1, 4);
  // The gradient is zero again.
  const after = await save(session);
  await session.do(STEP);
  expect((await save(session)).digest).toBe(after.digest);
});

test('an op that fails leaves the gradient as it was', async () => {
  const good = forwardBackward([datumOf(20, 1)]);
  const overflowing = forwardBackward([datumOf(10, 2, () => ({ weights: 3e38 }))]);
  const unlike = forwardBackward([datumOf(10, 2), { ...datumOf(10, 3), tokens: Int32Array.of(VOCABULARY) }]);
  const plain = await opened();
  await doAll(plain, [good, STEP]);
  const session = await opened();
  await session.do(good);
  await expect(session.do(overflowing)).rejects.toMatchObject({ code: 'non_finite_loss' });
  await expect(session.do(unlike)).rejects.toMatchObject({ code: 'invalid_request' });
  await expect(session.do({ ...STEP, beta1: 1 })).rejects.toMatchObject({ code: 'invalid_request' });
  await session.do(STEP);
  expect((await save(session)).digest).toBe((await save(plain)).digest);
});

const sampled = () => ({ logprobs: -1, advantages: 1 });
test.each<[string, ReturnType<typeof forwardBackward>, string, RegExp]>([
  ['no data', forwardBackward([]), 'invalid_request', /no data/],
  [
    'a datum without tokens',
    forwardBackward([datumOf(3, 1), datumOf(0, 1)]),
    'invalid_request',
    /Datum 1 has no tokens/,
  ],
  [
    'a datum that is too long',
    forwardBackward([datumOf(257, 1)]),
    'row_too_long',
    /257 tokens; the base model has 256/,
  ],
  [
    'a token that does not exist',
    forwardBackward([{ ...datumOf(2, 1), tokens: Int32Array.of(1, -1) }]),
    'invalid_request',
    /token -1 at 1/,
  ],
  [
    'a target that does not exist',
    forwardBackward([{ ...datumOf(2, 1), targets: Int32Array.of(160, 1) }]),
    'invalid_request',
    /target 160 at 0/,
  ],
  [
    'targets that are too few',
    forwardBackward([{ ...datumOf(3, 1), targets: Int32Array.of(1) }]),
    'invalid_request',
    /1 targets/,
  ],
  [
    'too many targets of a position',
    forwardBackward([{ ...datumOf(2, 1), targetsEach: 65 }]),
    'invalid_request',
    /at most 64/,
  ],
  [
    'soft targets of another loss',
    forwardBackward([{ ...datumOf(2, 1, sampled), targetsEach: 2 }], { loss: 'ppo' }),
    'invalid_request',
    /at most 1/,
  ],
  ['a missing field', forwardBackward([datumOf(3, 1)], { loss: 'cispo' }), 'invalid_request', /has no logprobs/],
  ['another field', forwardBackward([datumOf(3, 1, sampled)]), 'invalid_request', /"logprobs"/],
  [
    'an advantage that is NaN',
    forwardBackward(
      [datumOf(3, 1, sampled), datumOf(4, 1, (i) => ({ logprobs: 0, advantages: i === 2 ? Number.NaN : 0 }))],
      { loss: 'ppo' },
    ),
    'invalid_request',
    /Datum 1 has NaN in advantages at 2/,
  ],
  [
    'a weight that is infinite',
    forwardBackward([datumOf(3, 1, () => ({ weights: -Infinity }))]),
    'invalid_request',
    /Datum 0 has -Infinity/,
  ],
  ['another setting', forwardBackward([datumOf(3, 1)], { settings: { beta: 1 } }), 'invalid_request', /"beta"/],
  [
    'a setting that is no number',
    forwardBackward([datumOf(3, 1, sampled)], { loss: 'dro', settings: { beta: Number.NaN } }),
    'invalid_request',
    /beta of dro is NaN/,
  ],
])('refuses %s', async (_, op, code, message) => {
  const passes = vi.spyOn(SessionObjective.prototype, 'lossAndGradients');
  await expect((await opened()).do(op)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  expect(passes).not.toHaveBeenCalled();
  passes.mockRestore();
});

test('soft targets: two of half the weight are one of the whole', async () => {
  const one = datumOf(20, 1);
  const twice: SessionDatum = {
    ...one,
    targets: Int32Array.from({ length: 40 }, (_, i) => one.targets[i >> 1]!),
    targetsEach: 2,
    fields: { weights: new Float32Array(40).fill(0.5) },
  };
  const [hard, soft] = [await opened(), await opened()];
  const [ofOne, ofTwo] = [await results(hard, forwardBackward([one])), await results(soft, forwardBackward([twice]))];
  expect(ofTwo.metrics['loss:sum']).toBeCloseTo(ofOne.metrics['loss:sum']!, 3);
  const norms = (await Promise.all([hard.do(STEP), soft.do(STEP)])) as { metrics: Record<string, number> }[];
  expect(norms[0]!.metrics['grad_norm:mean']! / norms[1]!.metrics['grad_norm:mean']!).toBeCloseTo(1, 5);
});

describe('a saved session', () => {
  test('continues with the bytes that it would have had', async () => {
    const session = await opened();
    await doAll(session, opsOf(1));
    const saved = await save(session, { withOptimizer: true });
    expect(saved.outcome.optimizerFile).toMatchObject({ name: 'optimizer.safetensors' });
    expect(saved.outcome.files.map(({ name }) => name)).toEqual(['adapter_config.json', 'adapter_model.safetensors']);
    await doAll(session, opsOf(2));
    const { digest } = await save(session);

    const later = await opened({ seed: 77 });
    // What was before is gone.
    await later.do(forwardBackward([datumOf(9, 1)]));
    expect(await later.do({ kind: 'load', folder: saved.folder, withOptimizer: true, withGradient: false })).toEqual({
      kind: 'loaded',
    });
    expect((await save(later)).digest).toBe(saved.digest);
    await doAll(later, opsOf(2));
    expect((await save(later)).digest).toBe(digest);

    const without = await opened();
    await without.do({ kind: 'load', folder: saved.folder, withOptimizer: false, withGradient: false });
    expect((await save(without)).digest).toBe(saved.digest);
    await doAll(without, opsOf(2));
    expect((await save(without)).digest).not.toBe(digest);
  });

  test('between a gradient and its step continues with the gradient', async () => {
    const kept = { withOptimizer: true, withGradient: true };
    const session = await opened();
    await doAll(session, opsOf(1));
    await session.do(forwardBackward([datumOf(9, 1)]));
    const { folder } = await save(session, kept);
    await session.do(forwardBackward([datumOf(9, 2)]));
    await session.do(STEP);
    const { digest } = await save(session);

    const later = await opened();
    await later.do({ kind: 'load', folder, ...kept });
    await later.do(forwardBackward([datumOf(9, 2)]));
    await later.do(STEP);
    expect((await save(later)).digest).toBe(digest);

    const without = await opened();
    await without.do({ kind: 'load', folder, withOptimizer: true, withGradient: false });
    await without.do(forwardBackward([datumOf(9, 2)]));
    await without.do(STEP);
    expect((await save(without)).digest).not.toBe(digest);
  });

  test.each([
    ['of another rank', { rank: 8 }, /has rank|rank 4/],
    ['of other layers', { train_unembed: false }, /also adapts lm_head: load it into a model with the same/],
  ])('is refused by a model %s', async (_, spec, message) => {
    const { folder } = await save(await opened());
    const other = await opened(spec);
    const loading = other.do({ kind: 'load', folder, withOptimizer: false, withGradient: false });
    await expect(loading).rejects.toMatchObject({ code: 'invalid_adapter', message: expect.stringMatching(message) });
  });

  test('without an optimizer is refused where that is asked for, and changes nothing', async () => {
    const session = await opened();
    await doAll(session, opsOf(1));
    const { folder } = await save(await opened());
    const before = await save(session);
    const loading = session.do({ kind: 'load', folder, withOptimizer: true, withGradient: false });
    await expect(loading).rejects.toMatchObject({ code: 'invalid_adapter', message: expect.stringMatching(/without/) });
    expect((await save(session)).digest).toBe(before.digest);
  });
});

test('a step whose gradient is beyond any number changes nothing but the gradient', async () => {
  const session = await opened();
  const before = await save(session);
  const weighted = (weights: number) => forwardBackward([datumOf(4, 1, () => ({ weights }))]);
  const measuring = await opened();
  await measuring.do(weighted(1));
  const { metrics } = (await measuring.do(STEP)) as { metrics: Record<string, number> };
  // The square of its norm is a number of float32, and that of two is not.
  const large = weighted(1e19 / metrics['grad_norm:mean']!);
  await doAll(session, [large, large]);
  await expect(session.do(STEP)).rejects.toMatchObject({ code: 'non_finite_loss' });
  expect(await session.do(STEP)).toEqual({ kind: 'optimizer-step', metrics: {} });
  expect((await save(session)).digest).toBe(before.digest);
});

test('ends with its signal: what waits is cancelled, and so is what comes later', async () => {
  const stopping = new AbortController();
  const session = await opened({}, { signal: stopping.signal });
  const waiting = [forwardBackward([datumOf(200, 1)]), STEP].map((op) => session.do(op));
  stopping.abort('cancel');
  for (const one of waiting) await expect(one).rejects.toMatchObject({ code: 'cancelled' });
  await expect(session.do(STEP)).rejects.toMatchObject({ code: 'cancelled' });
  await session.close();
  await expect(session.do(STEP)).rejects.toMatchObject({ code: 'cancelled' });
});

test('asks for its memory before it loads the base, and does without where it gets none', async () => {
  const before = liveTensorCount();
  const deferred = opened(
    {},
    {
      admit: () => {
        throw new JobDeferred('full');
      },
    },
  );
  await expect(deferred).rejects.toBeInstanceOf(JobDeferred);
  expect(liveTensorCount()).toBe(before);
});

test('leaves no tensor behind, and the base to others', async () => {
  const warm = await opened();
  await doAll(warm, opsOf(1));
  const before = liveTensorCount();
  const session = await opened();
  await doAll(session, [...opsOf(2), forwardBackward([datumOf(9, 1)])]);
  const { folder } = await save(session, { withOptimizer: true, isEphemeral: false });
  await session.do({ kind: 'load', folder, withOptimizer: true, withGradient: false });
  await session.do(forwardBackward([datumOf(9, 1)]));
  await session.close();
  expect(liveTensorCount()).toBe(before);
});

test.each([
  [{ train_attn: true, train_mlp: false, train_unembed: false }, ['q_proj', 'k_proj', 'v_proj', 'o_proj']],
  [{ train_attn: false, train_mlp: true, train_unembed: false }, ['gate_proj', 'up_proj', 'down_proj']],
  [{ train_attn: false, train_mlp: false, train_unembed: true }, ['lm_head']],
])('adapts what %j asks for', async (spec, names) => {
  const { described } = await opened(spec);
  expect(new Set(described.modules.map((name) => name.split('.').at(-1)!))).toEqual(new Set(names));
  expect(described).toMatchObject({ maxTokens: 256, vocabularySize: VOCABULARY, precision: 'float32' });
});

test('refuses a model that trains nothing', async () => {
  const nothing = opened({ train_attn: false, train_mlp: false, train_unembed: false });
  await expect(nothing).rejects.toMatchObject({ code: 'invalid_job' });
});

test('refuses a classifier', async () => {
  const classifier = join(root, 'classifier');
  await mkdir(classifier);
  await writeTinyClassifier(classifier);
  const opening = opened({}, { modelFolder: classifier });
  await expect(opening).rejects.toMatchObject({ code: 'invalid_job', message: expect.stringMatching(/a classifier/) });
});
