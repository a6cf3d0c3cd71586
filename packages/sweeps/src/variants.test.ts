import { ProductError, type SweepRequest } from '@lorasmith/contracts';
import { describe, expect, test } from 'vitest';
import { variantsOf } from './variants.js';

const job = { base_model: 'tiny-llama', dataset: 'ds_0123456789abcdef01234567' };
const sweep = (space: SweepRequest['space'], changes: Partial<SweepRequest> = {}): SweepRequest => ({
  job,
  space,
  ...changes,
});
const valuesOf = (request: SweepRequest) => variantsOf(request).map(({ values }) => Object.values(values));
const RATE = 'training.learning_rate';
const RANK = { 'lora.r': { values: [4, 8, 16] } };

describe('a grid', () => {
  test('has every combination, the last field fastest, and the jobs have the values', () => {
    const request = sweep({ 'lora.r': { values: [4, 8] }, [RATE]: { range: { from: 1e-4, to: 1e-3, count: 2 } } });
    expect(valuesOf(request)).toEqual([
      [4, 1e-4],
      [4, 1e-3],
      [8, 1e-4],
      [8, 1e-3],
    ]);
    expect(variantsOf(request)[2]).toEqual({
      variant: 3,
      values: { 'lora.r': 8, [RATE]: 1e-4 },
      job: { ...job, lora: { r: 8 }, training: { learning_rate: 1e-4 } },
    });
  });

  test('keeps the rest of the template, which it does not change', () => {
    const template = { ...job, name: 'mine', lora: { alpha: 4, r: 1 } };
    const variants = variantsOf({ job: template, space: RANK });
    expect(variants.map((one) => [one.job.name, one.job.lora])).toEqual([
      ['mine #1', { alpha: 4, r: 4 }],
      ['mine #2', { alpha: 4, r: 8 }],
      ['mine #3', { alpha: 4, r: 16 }],
    ]);
    expect(template.lora.r).toBe(1);
    const long = variantsOf({ job: { ...job, name: '😀'.repeat(128) }, space: RANK })[0]!.job.name!;
    expect([...long].length).toBe(128);
  });

  test('divides a log range by equal factors, and an integer range without doubles', () => {
    const log = sweep({ [RATE]: { range: { from: 1e-4, to: 1e-1, scale: 'log', count: 4 } } });
    expect(valuesOf(log).flat()).toEqual([1e-4, 1e-3, 1e-2, 1e-1]);
    expect(valuesOf(sweep({ 'lora.r': { range: { from: 1, to: 4, count: 10 } } })).flat()).toEqual([1, 2, 3, 4]);
    expect(valuesOf(sweep({ [RATE]: { range: { from: 1e-4, to: 3e-3, scale: 'log' } } })).flat()).toEqual([
      1e-4, 0.000310723, 0.000965489, 3e-3,
    ]);
  });

  test('leaves out what meets all conditions of an exclusion', () => {
    const space = { ...RANK, [RATE]: { values: [1e-4, 1e-3] } };
    const exclude = [{ 'lora.r': { values: [16] }, [RATE]: { from: 5e-4 } }, { 'lora.r': { to: 4 } }];
    expect(valuesOf(sweep(space, { exclude }))).toEqual([
      [8, 1e-4],
      [8, 1e-3],
      [16, 1e-4],
    ]);
  });

  test('varies lists, choices and fields within a group that the template does not have', () => {
    const space = {
      'lora.target_modules': { values: ['all-linear', ['q_proj', 'v_proj']] },
      'training.early_stopping.patience': { values: [1, 2] },
      'training.lr_scheduler': { values: ['cosine'] },
    };
    expect(variantsOf(sweep(space)).at(-1)!.job).toEqual({
      ...job,
      lora: { target_modules: ['q_proj', 'v_proj'] },
      training: { early_stopping: { patience: 2 }, lr_scheduler: 'cosine' },
    });
  });
});

describe('a random search', () => {
  const space = { ...RANK, [RATE]: { range: { from: 1e-5, to: 1e-1, scale: 'log' as const } } };

  test('draws different variants that depend on the seed alone', () => {
    const drawn = valuesOf(sweep(space, { search: 'random', variants: 64, seed: 7 }));
    expect(new Set(drawn.map((values) => JSON.stringify(values))).size).toBe(64);
    expect(valuesOf(sweep(space, { search: 'random', variants: 64, seed: 7 }))).toEqual(drawn);
    expect(valuesOf(sweep(space, { search: 'random', variants: 64, seed: 8 }))).not.toEqual(drawn);
    // Fewer are the first of them, so that more can be drawn later.
    expect(valuesOf(sweep(space, { search: 'random', variants: 5, seed: 7 }))).toEqual(drawn.slice(0, 5));
    expect(drawn.every(([, rate]) => Number(rate) >= 1e-5 && Number(rate) <= 1e-1)).toBe(true);
    // By logarithm, half of them are in the lower half of the magnitudes.
    const low = drawn.filter(([, rate]) => Number(rate) < 1e-3).length;
    expect(low).toBeGreaterThan(16);
    expect(low).toBeLessThan(48);
  });

  test('draws none that is excluded, and says when there are too few', () => {
    const exclude = [{ 'lora.r': { values: [4] } }];
    const drawn = valuesOf(sweep(RANK, { search: 'random', variants: 2, exclude }));
    expect(drawn.flat().toSorted((one, other) => Number(one) - Number(other))).toEqual([8, 16]);
    expect(() => variantsOf(sweep(RANK, { search: 'random', variants: 3, exclude }))).toThrow(
      'Of 3 different variants only 2 were found',
    );
  });
});

const sixtyFive = { 'lora.r': { range: { from: 1, to: 13, count: 13 } }, 'lora.alpha': { values: [1, 2, 3, 4, 5] } };

test.each<[string, SweepRequest, string, string]>([
  ['a field of no group', sweep({ base_model: { values: ['x'] } }), 'space.base_model', 'cannot differ between'],
  ['the rows', sweep({ 'validation.split': { values: [0.1] } }), 'space.validation.split', 'cannot differ between'],
  ['the adapter to start from', sweep({ 'lora.init_from': { values: [null] } }), 'space.lora.init_from', 'in common'],
  [
    'what rows become',
    sweep({ 'training.max_seq_length': { values: [64] } }),
    'space.training.max_seq_length',
    'tokens',
  ],
  [
    'what is measured',
    sweep({ 'objective.grader.type': { values: ['regex'] } }),
    'space.objective.grader.type',
    'what is measured',
  ],
  ['the held-out rows', sweep({ 'training.seed': { values: [1, 2] } }), 'space.training.seed', 'held-out rows'],
  [
    'uneven steps',
    sweep({ 'training.batch_size': { values: [1, 2] } }, { halving: { first_steps: 2 } }),
    'space.training.batch_size',
    'equal tokens',
  ],
  ['an objective that there is not', sweep({ 'objective.beta': { values: [1] } }), 'space.objective.beta', 'has none'],
  [
    'a loss that is another for each variant',
    { ...sweep({ 'objective.beta': { values: [0.1, 0.2] } }), job: { ...job, objective: { kind: 'preference' } } },
    'metric',
    'changes what the loss measures',
  ],
  ['a field that there is not', sweep({ 'lora.rank': { values: [1] } }), 'space.lora.rank', 'is no field of a job'],
  ['a field of every object', sweep({ 'lora.constructor': { values: [1] } }), 'space.lora.constructor', 'is no field'],
  ['a prototype', sweep({ 'lora.__proto__.r': { values: [1] } }), 'space.lora.__proto__.r', 'is no field'],
  ['a part of a number', sweep({ 'lora.r.x': { values: [1] } }), 'space.lora.r.x', 'is no field'],
  ['a whole group', sweep({ lora: { values: [1] } }), 'space.lora', 'is a group of fields'],
  ['an empty path', sweep({ '': { values: [1] } }), 'space.', 'cannot differ'],
  ['neither values nor range', sweep({ 'lora.r': {} }), 'space.lora.r', 'either values or a range'],
  [
    'both values and range',
    sweep({ 'lora.r': { values: [1], range: { from: 1, to: 2 } } }),
    'space.lora.r',
    'either values or a range',
  ],
  ['a value twice', sweep({ 'lora.r': { values: [8, 4, 8] } }), 'space.lora.r', 'the value 8 twice'],
  ['a value of another type', sweep({ 'lora.r': { values: ['8'] } }), 'space.lora.r', 'lora.r cannot be "8"'],
  ['a value out of bounds', sweep({ 'lora.r': { values: [8, 0] } }), 'space.lora.r', 'lora.r cannot be 0'],
  ['a range out of bounds', sweep({ 'lora.r': { range: { from: 1, to: 1000 } } }), 'space.lora.r', 'cannot be 1000'],
  ['a range from a fraction', sweep({ 'lora.r': { range: { from: 1.5, to: 4 } } }), 'space.lora.r', 'cannot be 1.5'],
  ['an empty range', sweep({ [RATE]: { range: { from: 1, to: 1 } } }), `space.${RATE}`, 'ends where it begins'],
  [
    'a log range from 0',
    sweep({ 'training.weight_decay': { range: { from: 0, to: 1, scale: 'log' } } }),
    'space.training.weight_decay',
    'begins above 0',
  ],
  [
    'a range of words',
    sweep({ 'training.lr_scheduler': { range: { from: 1, to: 2 } } }),
    'space.training.lr_scheduler',
    'cannot be 1',
  ],
  [
    'two fields that exclude each other',
    sweep({ 'training.epochs': { values: [1] }, 'training.max_steps': { values: [5] } }),
    'space.training.epochs',
    'exclude each other',
  ],
  [
    'a group and a field of it',
    sweep({ 'training.early_stopping': { values: [null] }, 'training.early_stopping.patience': { values: [5] } }),
    'space.training.early_stopping',
    'one is a part of the other',
  ],
  [
    'a field that the template overrides',
    { ...sweep({ 'training.epochs': { values: [1, 2] } }), job: { ...job, training: { max_steps: 3 } } },
    'space.training.epochs',
    'has no effect',
  ],
  ['65 variants', sweep(sixtyFive), 'space', 'The space has 65 variants'],
  [
    'more combinations than are counted',
    sweep(
      Object.fromEntries(
        ['r', 'alpha', 'lora_plus_ratio'].map((name) => [`lora.${name}`, { range: { from: 1, to: 500, count: 64 } }]),
      ),
    ),
    'space',
    'more than 4096 combinations',
  ],
  ['no variant', sweep(RANK, { exclude: [{ 'lora.r': { from: 1 } }] }), 'exclude', 'leave no variant'],
  [
    'an exclusion of another field',
    sweep(RANK, { exclude: [{ 'lora.alpha': { from: 1 } }] }),
    'exclude.0.lora.alpha',
    'no field of the space',
  ],
  ['an empty condition', sweep(RANK, { exclude: [{ 'lora.r': {} }] }), 'exclude.0.lora.r', 'needs either values'],
  ['a random search of unknown size', sweep(RANK, { search: 'random' }), 'variants', 'needs variants'],
  ['a grid of a size', sweep(RANK, { variants: 3 }), 'variants', 'it has no variants'],
  ['a grid with a seed', sweep(RANK, { seed: 3 }), 'seed', 'it has no seed'],
  [
    'a random search with a count',
    sweep({ [RATE]: { range: { from: 1e-4, to: 1, count: 3 } } }, { search: 'random', variants: 2 }),
    `space.${RATE}`,
    'has no count',
  ],
])('%s is refused by name', (_name, request, param, message) => {
  let error: unknown;
  try {
    variantsOf(request);
  } catch (caught) {
    error = caught;
  }
  expect(error).toBeInstanceOf(ProductError);
  expect(error).toMatchObject({ code: 'invalid_sweep', param, message: expect.stringContaining(message) });
});

test('a field is refused whose group lacks what it needs beside the field', () => {
  const space = { 'lora.r': { values: [4] }, 'training.early_stopping.min_delta': { values: [0, 0.1] } };
  expect(() => variantsOf({ job, space })).toThrow(
    expect.objectContaining({
      code: 'invalid_sweep',
      param: 'space.training.early_stopping.min_delta',
      message: expect.stringContaining('patience'),
    }),
  );
  const withPatience = { ...job, training: { early_stopping: { patience: 2 } } };
  expect(variantsOf({ job: withPatience, space })).toHaveLength(2);
});

test('64 variants are allowed', () => {
  const exclude = [{ 'lora.r': { values: [13] }, 'lora.alpha': { values: [5] } }];
  expect(variantsOf(sweep(sixtyFive, { exclude }))).toHaveLength(64);
});
