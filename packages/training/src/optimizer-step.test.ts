import { fileURLToPath } from 'node:url';
import { ProductError } from '@lorasmith/contracts';
import { readModelFolder } from '@lorasmith/model-folder';
import { type Decoder, LoraAdapter, loadDecoder, tokenBatchOf } from '@lorasmith/models';
import { chooseKernels, liveTensorCount, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { differenceByLargest, greatestDifference } from '../../../test/numeric/greatest-difference.js';
import { ADAMW_DEFAULTS, AdamW } from './adamw.js';
import { type Batch, runnable } from './batches.js';
import { ReferenceBatch } from './check-reference/reference-case.js';
import { NextToken } from './objectives/next-token/next-token.js';
import { optimizerStep } from './optimizer-step.js';
import { type Participant, PassScheduler } from './shared-pass/pass-scheduler.js';

const kernels = chooseKernels('raw');

const CASE = fileURLToPath(new URL('../../../test/fixtures/reference/llama-tied', import.meta.url));
const SETTINGS = { seed: 3, max_grad_norm: 1, learningRate: 1e-2, recomputedLayers: 0 };
const passes = new PassScheduler().join();

let model: Decoder;
let reference: ReferenceBatch;
beforeAll(async () => {
  model = await loadDecoder(await readModelFolder(`${CASE}/base`), 'float32', kernels);
  reference = await ReferenceBatch.read(CASE);
});
afterAll(() => model.dispose());

/** The reference's rows in micro-batches of these rows. */
function batchesOf(groups: number[][]): Batch[] {
  return groups.map((rows) => {
    const batch = tokenBatchOf(rows.map((row) => reference.rows[row]!));
    return runnable(new NextToken(model), batch);
  });
}

function withAdapter<Result>(
  use: (adapter: LoraAdapter, optimizer: AdamW) => Promise<Result>,
  dropout = 0,
): Promise<Result> {
  const targets = model.groups.flatMap(({ modules }) => modules.map(({ name }) => ({ name, rank: 2, scale: 2 })));
  const adapter = new LoraAdapter(model.groups, { targets, dropout, seed: 1 });
  const optimizer = new AdamW(kernels, adapter.parameterCount, { ...ADAMW_DEFAULTS, weightDecay: 0 });
  return use(adapter, optimizer).finally(() => {
    optimizer.dispose();
    adapter.dispose();
  });
}

test('the rows of a step in one batch, or each in a micro-batch of its own: the same loss, norm and gradient', async () => {
  const stepOf = (groups: number[][]) =>
    withAdapter(async (adapter, optimizer) => {
      const result = await optimizerStep(adapter, optimizer, batchesOf(groups), SETTINGS, passes);
      // After one step the first moment is (1 - β1) times the gradient.
      return { result, gradient: toFloat32Array(optimizer.moments.first) };
    });
  const whole = await stepOf([[0, 1, 2, 3]]);
  expect(whole.result.trainedTokens).toBe(16 + 12 + 6 + 14);
  expect(whole.result.tokens).toBe(24 + 17 + 9 + 20);
  for (const groups of [
    [[0], [1], [2], [3]],
    [
      [2, 0],
      [3, 1],
    ],
  ]) {
    const cut = await stepOf(groups);
    expect(Math.abs(cut.result.loss - whole.result.loss)).toBeLessThan(1e-5);
    expect(Math.abs(cut.result.gradNorm / whole.result.gradNorm - 1)).toBeLessThan(1e-5);
    expect(cut.result).toMatchObject({ tokens: whole.result.tokens, trainedTokens: whole.result.trainedTokens });
    expect(differenceByLargest(cut.gradient, whole.gradient)).toBeLessThan(1e-5);
  }
});

test('the gradient is clipped, and its norm reported as it was before', async () => {
  const momentOf = (maxNorm: number | null) =>
    withAdapter(async (adapter, optimizer) => {
      const settings = { ...SETTINGS, max_grad_norm: maxNorm };
      const { gradNorm } = await optimizerStep(adapter, optimizer, batchesOf([[0, 1]]), settings, passes);
      const first = toFloat32Array(optimizer.moments.first);
      return { gradNorm, momentNorm: Math.sqrt(first.reduce((sum, value) => sum + value * value, 0)) };
    });
  const free = await momentOf(null);
  const clipped = await momentOf(free.gradNorm / 10);
  expect(clipped.gradNorm).toBe(free.gradNorm);
  expect(free.momentNorm / (0.1 * free.gradNorm)).toBeCloseTo(1, 4);
  expect(clipped.momentNorm / (0.01 * free.gradNorm)).toBeCloseTo(1, 4);
});

describe('dropout', () => {
  const lossesOf = (groups: number[][], seed: number) =>
    withAdapter(async (adapter, optimizer) => {
      const losses: number[] = [];
      for (let step = 0; step < 3; step++) {
        losses.push((await optimizerStep(adapter, optimizer, batchesOf(groups), { ...SETTINGS, seed }, passes)).loss);
      }
      return losses;
    }, 0.5);

  test('follows from the seed and the step', async () => {
    const losses = await lossesOf([[0, 1, 2, 3]], 3);
    expect(await lossesOf([[0, 1, 2, 3]], 3)).toEqual(losses);
    expect(await lossesOf([[0, 1, 2, 3]], 4)).not.toEqual(losses);
  });
});

describe('a step that cannot be made changes nothing', () => {
  async function unchangedBy(batches: Batch[], failing: Participant, code: string, settings = SETTINGS): Promise<void> {
    await withAdapter(async (adapter, optimizer) => {
      await optimizerStep(adapter, optimizer, batchesOf([[0]]), SETTINGS, passes);
      const before = {
        parameters: toFloat32Array(adapter.parameters),
        first: toFloat32Array(optimizer.moments.first),
        second: toFloat32Array(optimizer.moments.second),
      };
      batchesOf([[0]])[0]!.loss({ adapters: [{ adapter }] }); // makes the matrices of the new parameters
      const handles = liveTensorCount();
      const error = await optimizerStep(adapter, optimizer, batches, settings, failing).catch((reason) => reason);
      expect(error).toBeInstanceOf(ProductError);
      expect(error.code).toBe(code);
      expect(liveTensorCount()).toBe(handles);
      expect(optimizer.step).toBe(1);
      expect({
        parameters: toFloat32Array(adapter.parameters),
        first: toFloat32Array(optimizer.moments.first),
        second: toFloat32Array(optimizer.moments.second),
      }).toEqual(before);
      // And the next step is made as if there had been none between.
      await optimizerStep(adapter, optimizer, batchesOf([[1]]), SETTINGS, passes);
      expect(optimizer.step).toBe(2);
    });
  }

  test('a step whose loss is not finite changes nothing', async () => {
    const [good, bad] = batchesOf([[0], [1]]) as [Batch, Batch];
    const finite = bad.lossAndGradients.bind(bad);
    bad.lossAndGradients = (options) => {
      const result = finite(options);
      result.losses.dispose();
      return { ...result, losses: tensorOf(Float32Array.of(Number.NaN), [1]) };
    };
    await unchangedBy([good, bad], passes, 'non_finite_loss');
  });

  test('a step that is cancelled between two micro-batches changes nothing', async () => {
    const controller = new AbortController();
    const [first, second] = batchesOf([[0], [1]]) as [Batch, Batch];
    const whole = first.lossAndGradients.bind(first);
    first.lossAndGradients = (options) => {
      controller.abort('user');
      return whole(options);
    };
    await unchangedBy([first, second], new PassScheduler().join({ signal: controller.signal }), 'cancelled');
  });
});

test('weights that hold an infinity end in non_finite_loss, with a sentence that says what to do', async () => {
  await withAdapter(async (adapter, optimizer) => {
    const broken = new Float32Array(adapter.parameterCount);
    broken[0] = Number.POSITIVE_INFINITY;
    adapter.setParameters(tensorOf(broken, [broken.length]));
    const error = await optimizerStep(adapter, optimizer, batchesOf([[0, 1]]), SETTINGS, passes).catch((e) => e);
    expect(error).toBeInstanceOf(ProductError);
    expect(error.code).toBe('non_finite_loss');
    expect(error.message).toMatch(/of step 1 is not a finite number\. Lower learning_rate/);
    expect(optimizer.step).toBe(0);
    expect(toFloat32Array(adapter.parameters)[0]).toBe(Number.POSITIVE_INFINITY);
  });
});

test('handles are flat over five steps, with dropout and accumulation', async () => {
  await withAdapter(async (adapter, optimizer) => {
    const counts: number[] = [];
    for (let step = 0; step < 6; step++) {
      await optimizerStep(adapter, optimizer, batchesOf([[0, 1], [2], [3]]), SETTINGS, passes);
      counts.push(liveTensorCount());
    }
    // The first step makes the constants.
    expect(counts.slice(1)).toEqual(Array(5).fill(counts[1]));
    expect(counts[0]).toBe(counts[1]);
  }, 0.1);
});

test('the loss falls, step after step', async () => {
  await withAdapter(async (adapter, optimizer) => {
    const losses: number[] = [];
    for (let step = 0; step < 6; step++) {
      losses.push((await optimizerStep(adapter, optimizer, batchesOf([[0, 1, 2, 3]]), SETTINGS, passes)).loss);
    }
    expect(losses).toEqual([...losses].sort((a, b) => b - a));
    expect(greatestDifference([losses[0]!], [losses[5]!])).toBeGreaterThan(0.05);
  });
});
