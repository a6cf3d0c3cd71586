import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type ObjectiveRequest, objectiveOf, type PreferenceMetrics } from '@lorasmith/contracts';
import { LoraAdapter } from '@lorasmith/lora';
import { readModelFolder } from '@lorasmith/model-folder';
import { type Decoder, loadDecoder } from '@lorasmith/models';
import { type PeftAdapter, readPeftFolder } from '@lorasmith/peft-files';
import type { PairExamples, TokenPair } from '@lorasmith/planning';
import { configureKernels, liveTensorCount } from '@lorasmith/tensor';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { differenceByLargest, greatestDifference } from '../../../../../test/numeric/greatest-difference.js';
import { ADAMW_DEFAULTS, AdamW } from '../../adamw.js';
import { type Batch, batchSource } from '../../batches.js';
import { readJson, readTensors } from '../../check-reference/reference-case.js';
import { optimizerStep, type StepResult } from '../../optimizer-step.js';
import { PassScheduler } from '../../shared-pass/pass-scheduler.js';
import { objectiveOn } from '../objectives.js';
import { judgedPairs, pairBatchOf } from './pair-batch.js';
import type { Preference } from './preference.js';

const FIXTURES = new URL('../../../../../test/fixtures/preferences/', import.meta.url).pathname;
const CASES = readdirSync(FIXTURES, { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && entry.name !== 'base')
  .map(({ name }) => name);

interface Case {
  objective: ObjectiveRequest;
  learning_rate: number;
  epsilon: number;
  losses: number[];
  metrics: PreferenceMetrics[];
}

interface Pairs {
  pairs_per_step: number;
  pairs: { prompt: number[]; chosen: number[]; rejected: number[] }[];
}

/** Sums of some ten tokens and means of four pairs in float32, after steps that start from gradients in other roundings. */
const TOLERANCE = { loss: 1e-5, metric: 1e-5, gradient: 1e-5, trained: 1e-5 };

describe.each(['fused', 'raw'] as const)('with %s kernels', (kernels) => {
  let decoder: Decoder;
  let pairs: Pairs;
  beforeAll(async () => {
    configureKernels(kernels);
    decoder = await loadDecoder(await readModelFolder(join(FIXTURES, 'base')), 'float32');
    pairs = await readJson<Pairs>(FIXTURES, 'pairs.json');
  });
  afterAll(() => {
    decoder.dispose();
    configureKernels('raw');
  });

  function adapterOf(initial: PeftAdapter): LoraAdapter {
    const targets = [...initial.modules].map(([name, { rank, scale }]) => ({ name, rank, scale }));
    return new LoraAdapter(decoder.groups, { targets, dropout: 0, seed: 0, initial });
  }

  /** Trains as the trainer did; each step in micro-batches of these sizes. */
  async function train(name: string, sizes: readonly number[]) {
    const folder = join(FIXTURES, name);
    const { objective, learning_rate: learningRate, epsilon } = await readJson<Case>(folder, 'case.json');
    const settings = objectiveOf(objective);
    const initial = await readPeftFolder(join(folder, 'adapter_init'));
    const adapter = adapterOf(initial);
    const examples = examplesOf(pairs);
    const all = Array.from({ length: examples.count }, (_, i) => i);
    const scored = pairBatchOf(judgedPairs(examples, settings, null), all, 1);
    const isContinued = name.startsWith('continued');
    const reference = (objectiveOn(decoder, 'preference') as Preference).scores(scored, {
      adapters: isContinued ? [{ adapter }] : [],
    });
    const source = batchSource(decoder, judgedPairs(examples, settings, hasReference(name) ? reference : null));
    const optimizer = new AdamW(adapter.parameterCount, { ...ADAMW_DEFAULTS, epsilon, weightDecay: 0 });
    const passes = new PassScheduler().join();
    const results: StepResult[] = [];
    let gradients: Map<string, { a: Float32Array; b: Float32Array }> | null = null;
    for (let first = 0; first < examples.count; first += pairs.pairs_per_step) {
      const microBatches = cut(all.slice(first, first + pairs.pairs_per_step), sizes);
      gradients ??= gradientOf(adapter, [...source.batches(microBatches)], pairs.pairs_per_step);
      const stepSettings = { seed: 0, max_grad_norm: null, learningRate, recomputedLayers: 0 };
      results.push(await optimizerStep(adapter, optimizer, source.batches(microBatches), stepSettings, passes));
    }
    const trained = adapter.toPeft('base');
    optimizer.dispose();
    adapter.dispose();
    return { results, trained, gradients: gradients! };
  }

  describe.each(CASES)('%s', (name) => {
    test.each([
      { cut: 'one batch', sizes: [4] },
      { cut: 'micro-batches of one and three pairs', sizes: [1, 3] },
    ])('is what TRL trains, in $cut', async ({ sizes }) => {
      const folder = join(FIXTURES, name);
      const expected = await readJson<Case>(folder, 'case.json');
      const { results, trained, gradients } = await train(name, sizes);

      const losses = results.map(({ loss }) => loss);
      expect(greatestDifference(losses, expected.losses)).toBeLessThan(TOLERANCE.loss * Math.max(...expected.losses));
      for (const [step, wanted] of expected.metrics.entries()) {
        const found = results[step]!.preference!;
        expect(results[step]!.accuracy).toBe(found['rewards/accuracies']);
        for (const [metric, value] of Object.entries(wanted)) {
          // Without its weight, the likelihood is not computed.
          if (metric === 'nll_loss' && !('nll_loss' in found)) continue;
          // Before the first step both rewards are 0, up to rounding.
          if (metric === 'rewards/accuracies' && step === 0 && hasReference(name)) continue;
          const difference = Math.abs(found[metric as keyof PreferenceMetrics]! - value);
          expect(difference, `${metric} of step ${step}`).toBeLessThan(TOLERANCE.metric * Math.max(1, Math.abs(value)));
        }
      }

      const wanted = await readTensors(join(folder, 'gradients.safetensors'));
      let compared = 0;
      for (const [module, { a, b }] of gradients) {
        for (const [letter, found] of [['A', a] as const, ['B', b] as const]) {
          const gradient = wanted.get(`base_model.model.${module}.lora_${letter}.weight`)!.data;
          compared++;
          const isZero = gradient.every((value) => value === 0);
          const error = isZero ? greatestDifference(found, gradient) : differenceByLargest(found, gradient);
          expect(error, `${module}.lora_${letter}`).toBeLessThan(TOLERANCE.gradient);
        }
      }
      expect(compared).toBe(wanted.size);

      const after = await readPeftFolder(join(folder, 'adapter_trained'));
      expect([...trained.modules.keys()].sort()).toEqual([...after.modules.keys()].sort());
      for (const [module, { a, b }] of after.modules) {
        const found = trained.modules.get(module)!;
        expect(greatestDifference(found.a, a), `A of ${module}`).toBeLessThan(TOLERANCE.trained);
        expect(greatestDifference(found.b, b), `B of ${module}`).toBeLessThan(TOLERANCE.trained);
      }
    });
  });

  test('leaves no tensor behind', async () => {
    await train('orpo', [2, 2]);
    const before = liveTensorCount();
    await train('sigmoid', [2, 2]);
    await train('head', [4]);
    expect(liveTensorCount()).toBe(before);
  });

  /** The gradients of the mean of some batches. */
  function gradientOf(adapter: LoraAdapter, batches: readonly Batch[], count: number) {
    for (const batch of batches) {
      const { losses, correct } = batch.lossAndGradients({ adapters: [{ adapter }] });
      losses.dispose();
      correct.dispose();
    }
    const gradient = adapter.takeGradient();
    const matrices = adapter.matricesOf(gradient);
    gradient.dispose();
    const mean = (values: Float32Array) => values.map((value) => value / count);
    return new Map([...matrices].map(([module, { a, b }]) => [module, { a: mean(a), b: mean(b) }]));
  }
});

/** Losses that TRL's DPO trainer made. */
function hasReference(name: string): boolean {
  return !/^(cpo|simpo|orpo|head)/.test(name);
}

function examplesOf({ pairs }: Pairs): PairExamples {
  const sequence = (prompt: number[], answer: number[]): TokenPair['chosen'] => ({
    ids: Int32Array.of(...prompt, ...answer),
    trained: Uint8Array.from([...prompt.map(() => 0), ...answer.map(() => 1)]),
  });
  const all = pairs.map(({ prompt, chosen, rejected }) => ({
    chosen: sequence(prompt, chosen),
    rejected: sequence(prompt, rejected),
  }));
  const lengthOf = (index: number) => all[index]!.chosen.ids.length + all[index]!.rejected.ids.length;
  const labelsOf = (index: number) => pairs[index]!.chosen.length + pairs[index]!.rejected.length;
  const sum = (of: (index: number) => number) => all.reduce((total, _, index) => total + of(index), 0);
  return {
    kind: 'preference',
    count: all.length,
    tokens: sum(lengthOf),
    trainedTokens: sum(labelsOf),
    longest: Math.max(...all.map((_, index) => lengthOf(index))),
    lengthOf,
    labelsOf,
    lineOf: (index) => index + 1,
    pair: (index) => all[index]!,
  };
}

/** Parts of these sizes. */
function cut(indices: readonly number[], sizes: readonly number[]): number[][] {
  return sizes.map((size, part) => {
    const first = sizes.slice(0, part).reduce((sum, one) => sum + one, 0);
    return indices.slice(first, first + size);
  });
}
