import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { SessionDatum, SessionLoss } from '@lorasmith/contracts';
import { readModelFolder } from '@lorasmith/model-folder';
import { type Decoder, type LoraAdapter, loadDecoder } from '@lorasmith/models';
import { readPeftFolder } from '@lorasmith/peft-files';
import { chooseKernels, dispose, liveTensorCount } from '@lorasmith/tensor';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { differenceByLargest, greatestDifference } from '../../../../test/numeric/greatest-difference.js';
import { TESTED_KERNELS } from '../../../../test/usual-cases.js';
import { adapterOn, TOLERANCE } from '../../test/trl-case.js';
import { readJson, readTensors } from '../check-reference/reference-case.js';
import { LOSS_RULES } from './session-losses.js';
import { type DatumFigures, sessionBatchOf, sessionObjectiveOn } from './session-objective.js';

const FIXTURES = fileURLToPath(new URL('../../../../test/fixtures/', import.meta.url));

interface Case {
  loss: SessionLoss;
  settings: Record<string, number>;
  targetsEach: number;
  data: { tokens: number[]; targets: number[]; fields: Record<string, number[]> }[];
  losses: number[];
  logprobs: number[][];
}

const NAMES = (await readdir(join(FIXTURES, 'sessions')))
  .filter((name) => name.endsWith('.json'))
  .map((name) => name.slice(0, -'.json'.length));

function dataOf({ data, targetsEach }: Case): SessionDatum[] {
  return data.map(({ tokens, targets, fields }) => ({
    tokens: Int32Array.from(tokens),
    targets: Int32Array.from(targets),
    targetsEach,
    fields: Object.fromEntries(Object.entries(fields).map(([name, values]) => [name, Float32Array.from(values)])),
  }));
}

test('there are cases of each loss, of soft targets, and of tokens that each threshold clips', async () => {
  const cases = await Promise.all(NAMES.map((name) => readJson<Case>(join(FIXTURES, 'sessions'), `${name}.json`)));
  expect(new Set(cases.map(({ loss }) => loss))).toEqual(new Set(Object.keys(LOSS_RULES)));
  const ppo = cases[NAMES.indexOf('ppo')]!;
  const ratios = ppo.data.flatMap(({ fields }, index) =>
    fields.logprobs!.map(
      (sampled, i) => [Math.exp(ppo.logprobs[index]![i]! - sampled), fields.advantages![i]!] as const,
    ),
  );
  expect(ratios.some(([ratio, advantage]) => ratio > 1.2 && advantage > 0)).toBe(true);
  expect(ratios.some(([ratio, advantage]) => ratio > 1.2 && advantage < 0)).toBe(true);
  expect(ratios.some(([ratio, advantage]) => ratio < 0.8 && advantage < 0)).toBe(true);
  expect(ratios.some(([ratio, advantage]) => ratio < 0.8 && advantage > 0)).toBe(true);
});

describe.each(TESTED_KERNELS)('with %s kernels', (source) => {
  let decoder: Decoder;
  let adapter: LoraAdapter;
  beforeAll(async () => {
    const folder = await readModelFolder(join(FIXTURES, 'preferences/base'));
    // Several chunks of logits.
    decoder = await loadDecoder(folder, 'float32', chooseKernels(source), { logitsInChunk: 10 * 64 });
    adapter = adapterOn(decoder, await readPeftFolder(join(FIXTURES, 'sessions/adapter')));
  });
  afterAll(() => {
    adapter.dispose();
    decoder.dispose();
  });

  test.each(NAMES)('%s is what PyTorch computes', async (name) => {
    const expected = await readJson<Case>(join(FIXTURES, 'sessions'), `${name}.json`);
    const objective = sessionObjectiveOn(decoder, expected.targetsEach);
    const batch = sessionBatchOf(dataOf(expected), expected);
    // The adapter keeps its matrices from its first pass on.
    const scored = objective.loss(batch, { adapters: [{ adapter }] }).figures!;
    const before = liveTensorCount();
    const { losses, correct, figures } = objective.lossAndGradients(batch, { adapters: [{ adapter }] });
    dispose([losses, correct]);
    const gradient = adapter.takeGradient();
    const matrices = adapter.matricesOf(gradient);
    dispose(gradient);
    expect(liveTensorCount()).toBe(before);

    const check = (found: readonly DatumFigures[]) => {
      for (const [index, { logProbabilities, loss }] of found.entries()) {
        expect(greatestDifference(logProbabilities, expected.logprobs[index]!)).toBeLessThan(2e-5);
        const wanted = expected.losses[index]!;
        expect(Math.abs(loss - wanted)).toBeLessThan(2e-5 * Math.max(1, Math.abs(wanted)));
      }
    };
    check(figures!);
    check(scored);

    const wanted = await readTensors(join(FIXTURES, `sessions/${name}.safetensors`));
    expect(2 * matrices.size).toBe(wanted.size);
    for (const [module, { a, b }] of matrices) {
      for (const [letter, found] of [['A', a] as const, ['B', b] as const]) {
        const exact = wanted.get(`base_model.model.${module}.lora_${letter}.weight`)!.data;
        expect(differenceByLargest(found, exact), `${module} ${letter}`).toBeLessThan(TOLERANCE.gradient);
      }
    }
  });
});

// In cispo and gspo the derivative leaves out what is a constant.
test.each(['cross_entropy', 'importance_sampling', 'ppo', 'dro'] as const)(
  'the weights of %s are the derivatives that finite differences have',
  (loss) => {
    const numbers = (of: (i: number) => number) => Float32Array.from({ length: 40 }, (_, i) => of(i));
    const logProbabilities = numbers((i) => -0.2 - (i % 7) / 3);
    const fields = {
      logprobs: numbers((i) => logProbabilities[i]! - Math.sin(i)),
      advantages: numbers((i) => Math.cos(3 * i)),
    };
    const datum: SessionDatum = {
      tokens: new Int32Array(40),
      targets: new Int32Array(40),
      targetsEach: 1,
      fields: loss === 'cross_entropy' ? { weights: fields.advantages } : fields,
    };
    const { weights } = LOSS_RULES[loss].of(logProbabilities, datum, {});
    const step = 2 ** -10;
    for (const [i, weight] of weights.entries()) {
      const at = (by: number) =>
        LOSS_RULES[loss].of(logProbabilities.with(i, logProbabilities[i]! + by), datum, {}).loss;
      expect(-(at(step) - at(-step)) / (2 * step)).toBeCloseTo(weight, 2);
    }
  },
);

test('a prompt without advantage trains nothing, however unlikely it is', () => {
  const datum: SessionDatum = {
    tokens: new Int32Array(2),
    targets: new Int32Array(2),
    targetsEach: 1,
    fields: { logprobs: Float32Array.of(-2000, -1), advantages: Float32Array.of(0, 1) },
  };
  for (const loss of ['importance_sampling', 'ppo', 'cispo'] as const) {
    const found = LOSS_RULES[loss].of(Float32Array.of(-1, -1), datum, {});
    expect([found.loss, ...found.weights], loss).toEqual([loss === 'cispo' ? 1 : -1, 0, 1]);
  }
});
