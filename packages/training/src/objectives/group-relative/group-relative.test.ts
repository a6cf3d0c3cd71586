import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import {
  type GroupMetrics,
  type GroupRelativeObjective,
  type ObjectiveRequest,
  objectiveOf,
} from '@lorasmith/contracts';
import { readModelFolder } from '@lorasmith/model-folder';
import { type Decoder, type LoraAdapter, loadDecoder, tokenBatchOf } from '@lorasmith/models';
import { readPeftFolder } from '@lorasmith/peft-files';
import type { PromptExamples } from '@lorasmith/planning';
import { chooseKernels, liveTensorCount } from '@lorasmith/tensor';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { greatestDifference } from '../../../../../test/numeric/greatest-difference.js';
import { TESTED_KERNELS } from '../../../../../test/usual-cases.js';
import { adapterOn, cut, expectAsTrained, gradientOf, sequenceOf, sideOf, TOLERANCE } from '../../../test/trl-case.js';
import { ADAMW_DEFAULTS, AdamW } from '../../adamw.js';
import { batchSource } from '../../batches.js';
import { readJson } from '../../check-reference/reference-case.js';
import { optimizerStep, type StepResult } from '../../optimizer-step.js';
import { PassScheduler } from '../../shared-pass/pass-scheduler.js';
import type { NextToken } from '../next-token/next-token.js';
import { objectiveOn } from '../objectives.js';
import type { GradedAnswer } from './group-loss.js';
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

const END = 2;

/** A model, and answers to prompts. */
interface Given extends Groups {
  decoder: Decoder;
}

describe.each(TESTED_KERNELS)('with %s kernels', (source) => {
  const kernels = chooseKernels(source);
  let common: Given;
  beforeAll(async () => {
    common = await givenIn(FIXTURES);
  });
  afterAll(() => {
    common.decoder.dispose();
  });

  async function givenIn(folder: string): Promise<Given> {
    const decoder = await loadDecoder(await readModelFolder(join(folder, 'base')), 'float32', kernels);
    return { decoder, ...(await readJson<Groups>(folder, 'groups.json')) };
  }

  /** The answers that are given, with the log-probabilities that the adapter has for them when it samples: each token at the end of its text. */
  function answersOf({ decoder, groups }: Given, adapter: LoraAdapter, index: number): GradedAnswer[] {
    const { prompt, answers, rewards } = groups[index]!;
    const objective = objectiveOn(decoder, 'next-token') as NextToken;
    return answers.map((ids, position) => {
      const logProbabilities = Float32Array.from(ids, (_, token) => {
        const batch = tokenBatchOf([sequenceOf(prompt, ids.slice(0, token + 1))]);
        return objective.tokenLogProbabilities(batch, { adapters: [{ adapter }] }).at(-1)!;
      });
      return { ids: Int32Array.from(ids), logProbabilities, hasEnded: ids.at(-1) === END, reward: rewards[position]! };
    });
  }

  /** Trains as the trainer did; each step in micro-batches of these sizes. A model whose rotary angles depend on the length is one of its own. */
  async function train(name: string, sizes: readonly number[]) {
    if (!name.endsWith('-dynamic')) return await trainOn(common, name, sizes);
    const own = await givenIn(join(FIXTURES, name));
    try {
      return await trainOn(own, name, sizes);
    } finally {
      own.decoder.dispose();
    }
  }

  async function trainOn(given: Given, name: string, sizes: readonly number[]) {
    const { decoder } = given;
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
    const [adapter, before] = [adapterOn(decoder, initial), adapterOn(decoder, initial)];
    const sampled = new Map<number, GradedAnswer[]>();
    const answers: AnswerSource = {
      async of(prompts, _, read) {
        const lines = prompts.map(({ line }) => line);
        if (!sampled.has(lines[0]!)) {
          const groups = lines.map((line) => answersOf(given, adapter, line - 1));
          await read(groups);
          for (const [position, line] of lines.entries()) sampled.set(line, groups[position]!);
        }
        return lines.map((line) => sampled.get(line)!);
      },
    };
    const alike = (length: number, other: number) => decoder.hasSameRope(length, other);
    const examples = promptExamples(given);
    const source = batchSource(
      objectiveOn(decoder, 'group-relative'),
      new SampledGroups({ examples, settings, source: answers, alike }),
    );
    const optimizer = new AdamW(kernels, adapter.parameterCount, { ...ADAMW_DEFAULTS, epsilon, weightDecay: 0 });
    const passes = new PassScheduler().join();
    const results: StepResult[] = [];
    let gradients: Awaited<ReturnType<typeof gradientOf>> | null = null;
    for (let step = 0; step < losses.length; step++) {
      const first = Math.floor(step / settings.updates_per_batch) * given.prompts_per_step;
      const ofStep = Array.from({ length: given.prompts_per_step }, (_, position) => first + position);
      const microBatches = cut(ofStep, sizes);
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

      await expectAsTrained(folder, { trained, gradients });
    });
  });

  test('leaves no tensor behind', async () => {
    await train('kl', [1, 1]);
    const before = liveTensorCount();
    await train('continued', [1, 1]);
    await train('updates', [2]);
    expect(liveTensorCount()).toBe(before);
  });
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
  const side = sideOf(
    lengths,
    lengths.map(() => 0),
  );
  return { kind: 'group-relative', ...side, prompt: (index) => Int32Array.from(groups[index]!.prompt) };
}
