import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import {
  isLabelLoss,
  type PreferenceMetrics,
  type PreferenceObjective,
  preferenceObjectiveOf,
} from '@lorasmith/contracts';
import { LoraAdapter } from '@lorasmith/lora';
import { readModelFolder } from '@lorasmith/model-folder';
import { type Decoder, loadDecoder } from '@lorasmith/models';
import { type PeftAdapter, readPeftFolder } from '@lorasmith/peft-files';
import type { LabelledExamples, PairExamples } from '@lorasmith/planning';
import { configureKernels, liveTensorCount } from '@lorasmith/tensor';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { differenceByLargest, greatestDifference } from '../../../../../test/numeric/greatest-difference.js';
import { ADAMW_DEFAULTS, AdamW } from '../../adamw.js';
import { type Batch, batchSource } from '../../batches.js';
import { readJson, readTensors } from '../../check-reference/reference-case.js';
import { optimizerStep, type StepResult } from '../../optimizer-step.js';
import { PassScheduler } from '../../shared-pass/pass-scheduler.js';
import { objectiveOn } from '../objectives.js';
import { JudgedAnswers, partnersWithin } from './judged-answers.js';
import { JudgedPairs } from './judged-pairs.js';
import type { Preference } from './preference.js';

const FIXTURES = new URL('../../../../../test/fixtures/preferences/', import.meta.url).pathname;
const CASES = readdirSync(FIXTURES, { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && entry.name !== 'base')
  .map(({ name }) => name);

interface Case {
  objective: Partial<PreferenceObjective>;
  learning_rate: number;
  epsilon: number;
  losses: number[];
  metrics: PreferenceMetrics[];
}

interface Pairs {
  pairs_per_step: number;
  pairs: { prompt: number[]; chosen: number[]; rejected: number[] }[];
}

interface Answers {
  answers_per_step: number;
  answers: { prompt: number[]; completion: number[]; label: boolean }[];
}

/** Rows of a step, in either file. */
const ROWS_PER_STEP = 4;

/** Sums of some ten tokens and means of four pairs in float32, after steps that start from gradients in other roundings. */
const TOLERANCE = { loss: 1e-5, metric: 1e-5, gradient: 1e-5, trained: 1e-5 };

describe.each(['fused', 'raw'] as const)('with %s kernels', (kernels) => {
  let decoder: Decoder;
  let pairs: Pairs;
  let answers: Answers;
  beforeAll(async () => {
    configureKernels(kernels);
    decoder = await loadDecoder(await readModelFolder(join(FIXTURES, 'base')), 'float32');
    pairs = await readJson<Pairs>(FIXTURES, 'pairs.json');
    answers = await readJson<Answers>(FIXTURES, 'answers.json');
    expect([pairs.pairs_per_step, answers.answers_per_step]).toEqual([ROWS_PER_STEP, ROWS_PER_STEP]);
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
    const settings = preferenceObjectiveOf(objective);
    const initial = await readPeftFolder(join(folder, 'adapter_init'));
    const adapter = adapterOf(initial);
    const all = Array.from({ length: pairs.pairs.length }, (_, index) => index);
    const steps = cut(all, Array<number>(all.length / ROWS_PER_STEP).fill(ROWS_PER_STEP));
    const judged = (reference: Float32Array | null) => {
      if (!isLabelLoss(settings.loss)) return new JudgedPairs(pairExamples(pairs), settings, reference);
      const partners = partnersWithin(steps, all.length);
      return new JudgedAnswers({ examples: labelledExamples(answers), settings, partners, maxTokens: 64, reference });
    };
    const unknown = judged(null);
    const isContinued = name.startsWith('continued');
    const scores = (objectiveOn(decoder, 'preference') as Preference).scores(unknown.scored(all), {
      adapters: isContinued ? [{ adapter }] : [],
    });
    const source = batchSource(decoder, judged(unknown.referenceScores > 0 ? scores : null));
    const optimizer = new AdamW(adapter.parameterCount, { ...ADAMW_DEFAULTS, epsilon, weightDecay: 0 });
    const passes = new PassScheduler().join();
    const results: StepResult[] = [];
    let gradients: Map<string, { a: Float32Array; b: Float32Array }> | null = null;
    for (const step of steps) {
      const microBatches = cut(step, sizes);
      const batches = () => source.batches(microBatches, { adapters: [{ adapter }], passes });
      gradients ??= await gradientOf(adapter, batches(), ROWS_PER_STEP);
      const stepSettings = { seed: 0, max_grad_norm: null, learningRate, recomputedLayers: 0 };
      results.push(await optimizerStep(adapter, optimizer, batches(), stepSettings, passes));
    }
    const trained = adapter.toPeft('base');
    optimizer.dispose();
    adapter.dispose();
    return { results, trained, gradients: gradients! };
  }

  describe.each(CASES)('%s', (name) => {
    test.each([
      { cut: 'one batch', sizes: [4] },
      { cut: 'micro-batches of one and three rows', sizes: [1, 3] },
    ])('is what TRL trains, in $cut', async ({ sizes }) => {
      const folder = join(FIXTURES, name);
      const expected = await readJson<Case>(folder, 'case.json');
      const { results, trained, gradients } = await train(name, sizes);

      const losses = results.map(({ loss }) => loss);
      expect(greatestDifference(losses, expected.losses)).toBeLessThan(TOLERANCE.loss * Math.max(...expected.losses));
      for (const [step, wanted] of expected.metrics.entries()) {
        const found = results[step]!.metrics.preference!;
        expect(results[step]!.accuracy).toBe(found['rewards/accuracies']);
        for (const [metric, value] of Object.entries(wanted)) {
          // Without its weight, the likelihood is not computed.
          if (metric === 'nll_loss' && !('nll_loss' in found)) continue;
          // Before the first step both rewards are 0, up to rounding.
          if (metric === 'rewards/accuracies' && step === 0 && !/^(cpo|simpo|orpo|head)/.test(name)) continue;
          const difference = Math.abs(found[metric as keyof PreferenceMetrics]! - value);
          expect(difference, `${metric} of step ${step}`).toBeLessThan(TOLERANCE.metric * Math.max(1, Math.abs(value)));
        }
        // TRL has no accuracies of answers with a label, and no likelihood beside the loss of DPO.
        const known = [...Object.keys(wanted), 'rewards/accuracies', 'nll_loss'];
        expect(Object.keys(found).filter((metric) => !known.includes(metric))).toEqual([]);
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
    await train('kto', [2, 2]);
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

function sequenceOf(prompt: number[], answer: number[]) {
  return {
    ids: Int32Array.of(...prompt, ...answer),
    trained: Uint8Array.from([...prompt.map(() => 0), ...answer.map(() => 1)]),
  };
}

function pairExamples({ pairs }: Pairs): PairExamples {
  const all = pairs.map(({ prompt, chosen, rejected }) => ({
    chosen: sequenceOf(prompt, chosen),
    rejected: sequenceOf(prompt, rejected),
  }));
  const lengths = all.map(({ chosen, rejected }) => chosen.ids.length + rejected.ids.length);
  const labels = pairs.map(({ chosen, rejected }) => chosen.length + rejected.length);
  return { kind: 'preference', ...sideOf(lengths, labels), pair: (index) => all[index]! };
}

function labelledExamples({ answers }: Answers): LabelledExamples {
  const all = answers.map(({ prompt, completion, label }) => ({ sequence: sequenceOf(prompt, completion), label }));
  const lengths = all.map(({ sequence }) => sequence.ids.length);
  const side = sideOf(
    lengths,
    answers.map(({ completion }) => completion.length),
  );
  return { kind: 'labelled', ...side, answer: (index) => all[index]!, label: (index) => all[index]!.label };
}

/** Examples of these lengths, with so many labels each. */
function sideOf(lengths: readonly number[], labels: readonly number[]) {
  const sum = (numbers: readonly number[]) => numbers.reduce((total, number) => total + number, 0);
  return {
    count: lengths.length,
    tokens: sum(lengths),
    trainedTokens: sum(labels),
    longest: Math.max(...lengths),
    lengthOf: (index: number) => lengths[index]!,
    labelsOf: (index: number) => labels[index]!,
    lineOf: (index: number) => index + 1,
  };
}

/** Parts of these sizes. */
function cut(indices: readonly number[], sizes: readonly number[]): number[][] {
  return sizes.map((size, part) => {
    const first = sizes.slice(0, part).reduce((sum, one) => sum + one, 0);
    return indices.slice(first, first + size);
  });
}
