import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { isLabelLoss, objectiveOf, type PreferenceMetrics, type PreferenceObjective } from '@lorasmith/contracts';
import { readModelFolder } from '@lorasmith/model-folder';
import { type Decoder, loadDecoder } from '@lorasmith/models';
import { readPeftFolder } from '@lorasmith/peft-files';
import type { LabelledExamples, PairExamples } from '@lorasmith/planning';
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
import { objectiveOn } from '../objectives.js';
import { JudgedAnswers, partnersWithin } from './judged-answers.js';
import { JudgedPairs } from './judged-pairs.js';
import type { Preference } from './preference.js';
import type { JudgedExamples } from './preference-batch.js';

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

describe.each(TESTED_KERNELS)('with %s kernels', (source) => {
  const kernels = chooseKernels(source);
  let decoder: Decoder;
  let pairs: Pairs;
  let answers: Answers;
  beforeAll(async () => {
    decoder = await loadDecoder(await readModelFolder(join(FIXTURES, 'base')), 'float32', kernels);
    pairs = await readJson<Pairs>(FIXTURES, 'pairs.json');
    answers = await readJson<Answers>(FIXTURES, 'answers.json');
    expect([pairs.pairs_per_step, answers.answers_per_step]).toEqual([ROWS_PER_STEP, ROWS_PER_STEP]);
  });
  afterAll(() => {
    decoder.dispose();
  });

  /** Trains as the trainer did; each step in micro-batches of these sizes. */
  async function train(name: string, sizes: readonly number[]) {
    const folder = join(FIXTURES, name);
    const { objective, learning_rate: learningRate, epsilon } = await readJson<Case>(folder, 'case.json');
    const settings = objectiveOf({ kind: 'preference', ...objective });
    const initial = await readPeftFolder(join(folder, 'adapter_init'));
    const adapter = adapterOn(decoder, initial);
    const all = Array.from({ length: pairs.pairs.length }, (_, index) => index);
    const steps = cut(all, Array<number>(all.length / ROWS_PER_STEP).fill(ROWS_PER_STEP));
    const alike = (length: number, other: number) => decoder.hasSameRope(length, other);
    const judged = (reference: Float32Array | null) => {
      if (!isLabelLoss(settings.loss))
        return new JudgedPairs({ examples: pairExamples(pairs), settings, reference, alike });
      const partners = partnersWithin(steps, all.length);
      return new JudgedAnswers({
        examples: labelledExamples(answers),
        settings,
        partners,
        maxTokens: 64,
        reference,
        alike,
      });
    };
    const unknown = judged(null);
    const isContinued = name.startsWith('continued');
    const scores = (objectiveOn(decoder, 'preference') as Preference).scores(unknown.scored(all), {
      adapters: isContinued ? [{ adapter }] : [],
    });
    const source = batchSource<JudgedExamples>(
      objectiveOn(decoder, 'preference'),
      judged(unknown.referenceScores > 0 ? scores : null),
    );
    const optimizer = new AdamW(kernels, adapter.parameterCount, { ...ADAMW_DEFAULTS, epsilon, weightDecay: 0 });
    const passes = new PassScheduler().join();
    const results: StepResult[] = [];
    let gradients: Awaited<ReturnType<typeof gradientOf>> | null = null;
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

      await expectAsTrained(folder, { trained, gradients });
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
});

test('the partner of an answer is the one before it in its step', () => {
  const partners = partnersWithin([[3, 0, 2], Int32Array.of(1), [5, 4]], 6);
  expect([...partners]).toEqual([3, 1, 0, 2, 5, 4]);
});

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
