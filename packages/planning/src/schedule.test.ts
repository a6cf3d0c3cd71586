import { describe, expect, it, test } from 'vitest';
import { greatestDifference } from '../../../test/numeric/greatest-difference.js';
import { countSteps, learningRateAt, sumOfRates, warmupWarnings } from './schedule.js';

const settings = { batch_size: 8, gradient_accumulation_steps: 1, epochs: 3, max_steps: null, warmup_ratio: 0.03 };

describe('countSteps', () => {
  it.each([
    [100, {}, { perEpoch: 13, total: 39, warmup: 2 }],
    [100, { gradient_accumulation_steps: 4 }, { perEpoch: 4, total: 12, warmup: 1 }],
    [100, { epochs: 0.5 }, { perEpoch: 13, total: 7, warmup: 1 }],
    [100, { epochs: 0.01 }, { perEpoch: 13, total: 1, warmup: 0 }],
    [100, { max_steps: 1, warmup_ratio: 1 }, { perEpoch: 13, total: 1, warmup: 0 }],
    [100, { max_steps: 2 }, { perEpoch: 13, total: 2, warmup: 1 }],
    [100, { max_steps: 5 }, { perEpoch: 13, total: 5, warmup: 1 }],
    [1, { max_steps: 50, warmup_ratio: 0 }, { perEpoch: 1, total: 50, warmup: 0 }],
    [8, { warmup_ratio: 1 }, { perEpoch: 1, total: 3, warmup: 3 }],
  ])('%i examples with %o', (examples, changes, expected) => {
    expect(countSteps(examples, { ...settings, ...changes })).toEqual(expected);
  });
});

describe('warmupWarnings', () => {
  it('says that the warm-up takes all steps, and then only', () => {
    const warned = (total: number, warmup: number) => warmupWarnings({ perEpoch: 13, total, warmup });
    expect(warned(3, 3)).toMatchObject([{ code: 'warmup_covers_all_steps', param: 'training.warmup_ratio' }]);
    expect(warned(3, 3)[0]!.message).toContain('all 3 steps');
    expect(warned(3, 2)).toEqual([]);
    expect(warned(1, 0)).toEqual([]);
  });
});

// transformers 5.24: get_scheduler(name, optimizer with lr 2e-4, num_warmup_steps, num_training_steps).get_last_lr() before
// each step; "constant" is its constant_with_warmup.
const CASES = [
  {
    lr_scheduler: 'linear',
    steps: { total: 10, warmup: 3 },
    rates: [
      0, 6.666666666666667e-5, 0.00013333333333333334, 0.0002, 0.00017142857142857143, 0.00014285714285714287,
      0.00011428571428571428, 8.571428571428571e-5, 5.714285714285714e-5, 2.857142857142857e-5,
    ],
  },
  {
    lr_scheduler: 'linear',
    steps: { total: 8, warmup: 0 },
    rates: [0.0002, 0.000175, 0.00015000000000000001, 0.000125, 0.0001, 7.500000000000001e-5, 5e-5, 2.5e-5],
  },
  {
    lr_scheduler: 'cosine',
    steps: { total: 10, warmup: 3 },
    rates: [
      0, 6.666666666666667e-5, 0.00013333333333333334, 0.0002, 0.0001900968867902419, 0.00016234898018587337,
      0.00012225209339563145, 7.774790660436858e-5, 3.7651019814126654e-5, 9.903113209758096e-6,
    ],
  },
  {
    lr_scheduler: 'cosine',
    steps: { total: 8, warmup: 0 },
    rates: [
      0.0002, 0.0001923879532511287, 0.00017071067811865476, 0.000138268343236509, 0.0001, 6.173165676349103e-5,
      2.9289321881345254e-5, 7.612046748871327e-6,
    ],
  },
  {
    lr_scheduler: 'constant',
    steps: { total: 10, warmup: 3 },
    rates: [0, 6.666666666666667e-5, 0.00013333333333333334, 0.0002, 0.0002, 0.0002, 0.0002, 0.0002, 0.0002, 0.0002],
  },
  {
    lr_scheduler: 'constant',
    steps: { total: 8, warmup: 0 },
    rates: [0.0002, 0.0002, 0.0002, 0.0002, 0.0002, 0.0002, 0.0002, 0.0002],
  },
] as const;

test.each(CASES)("$lr_scheduler with $steps.warmup steps of warm-up is transformers'", (each) => {
  const { lr_scheduler, steps, rates } = each;
  const actual = rates.map((_, step) => learningRateAt(step, { learning_rate: 2e-4, lr_scheduler }, steps));
  expect(greatestDifference(actual, rates)).toBeLessThan(1e-15);
});

test('warm-up all the way, and past the end', () => {
  const at = (step: number, warmup: number) =>
    learningRateAt(step, { learning_rate: 1, lr_scheduler: 'linear' }, { total: 4, warmup });
  expect([0, 1, 2, 3].map((step) => at(step, 4))).toEqual([0, 0.25, 0.5, 0.75]);
  expect(at(4, 4)).toBe(1);
  expect(at(9, 0)).toBe(0);
});

test.each(['constant', 'linear', 'cosine'] as const)(
  'the sum of the rates is that of the steps, with %s',
  (lr_scheduler) => {
    const settings = { learning_rate: 3e-4, lr_scheduler };
    for (const steps of [
      { total: 1, warmup: 0 },
      { total: 2, warmup: 1 },
      { total: 7, warmup: 7 },
      { total: 100, warmup: 3 },
    ]) {
      const rates = Array.from({ length: steps.total }, (_, step) => learningRateAt(step, settings, steps));
      expect(sumOfRates(settings, steps)).toBeCloseTo(
        rates.reduce((sum, rate) => sum + rate),
        12,
      );
    }
  },
);
