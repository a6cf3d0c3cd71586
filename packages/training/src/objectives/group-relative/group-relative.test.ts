import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import {
  type GroupMetrics,
  type GroupRelativeObjective,
  type ObjectiveRequest,
  objectiveOf,
} from '@lorasmith/contracts';
import { LoraAdapter } from '@lorasmith/lora';
import { readModelFolder } from '@lorasmith/model-folder';
import { type Decoder, loadDecoder, tokenBatchOf } from '@lorasmith/models';
import { type PeftAdapter, readPeftFolder } from '@lorasmith/peft-files';
import type { PromptExamples } from '@lorasmith/planning';
import { configureKernels, liveTensorCount } from '@lorasmith/tensor';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { differenceByLargest, greatestDifference } from '../../../../../test/numeric/greatest-difference.js';
import { ADAMW_DEFAULTS, AdamW } from '../../adamw.js';
import { type Batch, batchSource } from '../../batches.js';
import { readJson, readTensors } from '../../check-reference/reference-case.js';
import { optimizerStep, type StepResult } from '../../optimizer-step.js';
import { PassScheduler } from '../../shared-pass/pass-scheduler.js';
import type { NextToken } from '../next-token/next-token.js';
import { objectiveOn } from '../objectives.js';
import type { GradedAnswer } from './graded-answer.js';
import { type AnswerSource, SampledGroups } from './sampled-groups.js';

const FIXTURES = new URL('../../../../../test/fixtures/groups/', import.meta.url).pathname;
const CASES = readdirSync(FIXTURES, { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && entry.name !== 'base')
  .map(({ name }) => name);

interface Case {
  objective: Omit<ObjectiveRequest, 'kind' | 'grader'>;
  learning_rate: number;
  epsilon: number;
  losses: number[];
  metrics: GroupMetrics[];
}

interface Groups {
  prompts_per_step: number;
  max_completion_tokens: number;
  groups: { prompt: number[]; answers: number[][]; rewards: number[] }[];
}

/** Sums of some tens of tokens in float32, after steps that start from gradients in other roundings. */
const TOLERANCE = { loss: 1e-5, metric: 1e-5, gradient: 1e-5, trained: 1e-5 };
const END = 2;

describe.each(['fused', 'raw'] as const)('with %s kernels', (kernels) => {
  let decoder: Decoder;
  let given: Groups;
  beforeAll(async () => {
    configureKernels(kernels);
    decoder = await loadDecoder(await readModelFolder(join(FIXTURES, 'base')), 'float32');
    given = await readJson<Groups>(FIXTURES, 'groups.json');
  });
  afterAll(() => {
    decoder.dispose();
    configureKernels('raw');
  });

  function adapterOf(initial: PeftAdapter): LoraAdapter {
    const targets = [...initial.modules].map(([name, { rank, scale }]) => ({ name, rank, scale }));
    return new LoraAdapter(decoder.groups, { targets, dropout: 0, seed: 0, initial });
  }

  /** The answers that are given, with the log-probabilities that the adapter has for them when it samples. */
  function answersOf(adapter: LoraAdapter, index: number): GradedAnswer[] {
    const { prompt, answers, rewards } = given.groups[index]!;
    return answers.map((ids, place) => {
      const trained = Uint8Array.from([...prompt.map(() => 0), ...ids.map(() => 1)]);
      const batch = tokenBatchOf([{ ids: Int32Array.of(...prompt, ...ids), trained }]);
      const objective = objectiveOn(decoder, 'next-token') as NextToken;
      const logProbabilities = objective.tokenLogProbabilities(batch, { adapters: [{ adapter }] });
      return { ids: Int32Array.from(ids), logProbabilities, hasEnded: ids.at(-1) === END, reward: rewards[place]! };
    });
  }

  /** Trains as the trainer did; each step in micro-batches of these sizes. */
  async function train(name: string, sizes: readonly number[]) {
    const folder = join(FIXTURES, name);
    const { objective, learning_rate: learningRate, epsilon, losses } = await readJson<Case>(folder, 'case.json');
    const settings = objectiveOf({
      kind: 'group-relative',
      grader: { type: 'regex', pattern: 'x' },
      group_size: given.groups[0]!.answers.length,
      max_completion_tokens: given.max_completion_tokens,
      ...objective,
    }) as GroupRelativeObjective;
    const initial = await readPeftFolder(join(folder, 'adapter_init'));
    const [adapter, before] = [adapterOf(initial), adapterOf(initial)];
    const sampled = new Map<number, GradedAnswer[]>();
    const answers: AnswerSource = {
      of: async (prompts) =>
        prompts.map(({ line }) => {
          const answers = sampled.get(line) ?? answersOf(adapter, line - 1);
          sampled.set(line, answers);
          return answers;
        }),
    };
    const source = batchSource(decoder, new SampledGroups(promptExamples(given), settings, answers));
    const optimizer = new AdamW(adapter.parameterCount, { ...ADAMW_DEFAULTS, epsilon, weightDecay: 0 });
    const passes = new PassScheduler().join();
    const results: StepResult[] = [];
    let gradients: Map<string, { a: Float32Array; b: Float32Array }> | null = null;
    for (let step = 0; step < losses.length; step++) {
      const first = Math.floor(step / settings.updates_per_batch) * given.prompts_per_step;
      const microBatches = cut(first, sizes);
      const reference = name === 'continued' ? [{ adapter: before }] : [];
      const batches = () => source.batches(microBatches, { adapters: [{ adapter }], passes, step, reference });
      gradients ??= await gradientOf(adapter, batches(), given.prompts_per_step * settings.group_size);
      const stepSettings = { seed: 0, max_grad_norm: null, learningRate, recomputedLayers: 0 };
      results.push(await optimizerStep(adapter, optimizer, batches(), stepSettings, passes));
    }
    const trained = adapter.toPeft('base');
    optimizer.dispose();
    adapter.dispose();
    before.dispose();
    return { results, trained, gradients: gradients! };
  }

  describe.each(CASES)('%s', (name) => {
    test.each([
      { cut: 'one batch', sizes: [2] },
      { cut: 'micro-batches of a prompt each', sizes: [1, 1] },
    ])('is what TRL trains, in $cut', async ({ sizes }) => {
      const folder = join(FIXTURES, name);
      const expected = await readJson<Case>(folder, 'case.json');
      const { results, trained, gradients } = await train(name, sizes);

      const losses = results.map(({ loss }) => loss);
      expect(greatestDifference(losses, expected.losses)).toBeLessThan(TOLERANCE.loss);
      for (const [step, wanted] of expected.metrics.entries()) {
        const found = results[step]!.metrics.group!;
        expect(results[step]!.accuracy).toBeCloseTo(1 - found['completions/clipped_ratio'], 6);
        for (const [metric, value] of Object.entries(wanted)) {
          // Of the standard deviation of all rewards, TRL says whether that is 0.
          if (name === 'batch' && metric === 'frac_reward_zero_std') continue;
          const difference = Math.abs(found[metric as keyof GroupMetrics]! - value);
          expect(difference, `${metric} of step ${step}`).toBeLessThan(TOLERANCE.metric * Math.max(1, Math.abs(value)));
        }
        expect('kl' in found).toBe('kl' in wanted);
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
    await train('kl', [1, 1]);
    const before = liveTensorCount();
    await train('continued', [1, 1]);
    await train('updates', [2]);
    expect(liveTensorCount()).toBe(before);
  });

  /** The gradients of the mean of some batches. */
  async function gradientOf(adapter: LoraAdapter, batches: AsyncIterable<Batch>, count: number) {
    for await (const batch of batches) {
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

test('the fixtures have tokens that are clipped, and a group that trains nothing', async () => {
  const updates = await readJson<Case>(join(FIXTURES, 'updates'), 'case.json');
  expect(Math.max(...updates.metrics.map((metrics) => metrics['clip_ratio/region_mean']!))).toBeGreaterThan(0.1);
  const { metrics } = await readJson<Case>(join(FIXTURES, 'dapo'), 'case.json');
  expect(metrics.map(({ frac_reward_zero_std: share }) => share)).toContain(0.5);
  expect(Math.max(...metrics.map((one) => one['completions/clipped_ratio']))).toBeGreaterThan(0);
});

function promptExamples({ groups }: Groups): PromptExamples {
  const lengths = groups.map(({ prompt }) => prompt.length);
  return {
    kind: 'group-relative',
    count: groups.length,
    tokens: lengths.reduce((sum, length) => sum + length, 0),
    trainedTokens: 0,
    longest: Math.max(...lengths),
    lengthOf: (index) => lengths[index]!,
    labelsOf: () => 0,
    lineOf: (index) => index + 1,
    prompt: (index) => Int32Array.from(groups[index]!.prompt),
  };
}

/** Indices from the first on, in parts of these sizes. */
function cut(first: number, sizes: readonly number[]): number[][] {
  let next = first;
  return sizes.map((size) => Array.from({ length: size }, () => next++));
}
