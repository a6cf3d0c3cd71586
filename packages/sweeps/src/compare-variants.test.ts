import { describe, expect, test } from 'vitest';
import {
  type AtRung,
  decideRung,
  metricOf,
  metricValue,
  rankingOf,
  shareOfHalving,
  stepOfRung,
} from './compare-variants.js';

describe('a ranking', () => {
  test('has the best first, the earlier one of equals, and leaves out what is not a number', () => {
    expect(rankingOf([0.5, null, 0.2, Number.NaN, 0.5, Number.POSITIVE_INFINITY, 0.1], 'min')).toEqual([6, 2, 0, 4]);
    expect(rankingOf([0.5, null, 0.2, 0.5, 0.9], 'max')).toEqual([4, 0, 3, 2]);
    expect(rankingOf([null, null], 'min')).toEqual([]);
  });
});

describe('a metric', () => {
  const job = { base_model: 'x', dataset: 'ds_0123456789abcdef01234567', validation: { split: 0.1 } };
  const space = {};
  const GRADER = { type: 'regex' as const, pattern: 'a' };

  test('is the held-out loss, which is to be low, unless the sweep says otherwise', () => {
    expect(metricOf({ job, space })).toEqual({ metric: 'loss', direction: 'min' });
    expect(metricOf({ job, space, metric: 'accuracy' })).toEqual({ metric: 'accuracy', direction: 'max' });
    expect(metricOf({ job, space, direction: 'max' })).toEqual({ metric: 'loss', direction: 'max' });
    const validation = { dataset: 'ds_0123456789abcdef01234567' };
    expect(metricOf({ job: { ...job, validation }, space }).metric).toBe('loss');
    const objective = { kind: 'group-relative' as const, grader: GRADER };
    expect(metricOf({ job: { ...job, objective }, space, metric: 'reward' }).direction).toBe('max');
  });

  test('needs held-out rows, and a reward an objective that has one', () => {
    const without = { ...job, validation: {} };
    expect(() => metricOf({ job: without, space })).toThrow('the job has none');
    expect(() => metricOf({ job, space, metric: 'reward' })).toThrow('Only a job with the objective group-relative');
  });

  test('is null before the first evaluation, and where it is not a number', () => {
    const evaluation = { step: 3, loss: 0.5, accuracy: null, reward: null };
    expect(metricValue(evaluation, 'loss')).toBe(0.5);
    expect(metricValue(evaluation, 'accuracy')).toBeNull();
    expect(metricValue(null, 'loss')).toBeNull();
  });
});

const at = (state: AtRung['state'], metric: number | null = null): AtRung => ({ state, metric });
const rung = (...variants: [number, AtRung][]) => new Map(variants);

test('the better half goes on once all have come, equal ones by their order', () => {
  const waiting = (metric: number | null) => at('waiting', metric);
  const four = [4, 1, 3, 1].map((metric, index): [number, AtRung] => [index + 2, waiting(metric)]);
  expect(decideRung(new Map(four), 'min')).toEqual([3, 5]);
  expect(decideRung(new Map(four), 'max')).toEqual([2, 4]);
  const three = rung([0, waiting(2)], [1, waiting(1)], [2, waiting(2)]);
  expect(decideRung(three, 'min')).toEqual([0, 1]);
  expect(decideRung(rung([0, waiting(2)], [1, at('on-the-way')]), 'min')).toBeNull();
});

test('a variant that has failed does not go on, and takes no place from another', () => {
  const variants = rung([0, at('ended')], [1, at('waiting', 3)], [2, at('waiting', 5)], [3, at('ended')]);
  expect(decideRung(variants, 'min')).toEqual([1, 2]);
  // One that could not be measured is no better than one that failed.
  expect(decideRung(rung([0, at('waiting')], [1, at('waiting')]), 'min')).toEqual([]);
  // One that has ended before the rung is compared by what it has reached.
  expect(decideRung(rung([0, at('ended', 1)], [1, at('waiting', 2)]), 'min')).toEqual([0]);
});

test('nothing is decided about variants that have all ended', () => {
  expect(decideRung(rung([0, at('ended', 1)], [1, at('ended', 2)]), 'min')).toBeNull();
});

test('each rung is at twice as many steps, and the steps of all are counted', () => {
  expect([0, 1, 2, 3].map((number) => stepOfRung(5, number))).toEqual([5, 10, 20, 40]);
  // 8 to step 10, 4 to 20, 2 to 40, one to 75.
  expect(shareOfHalving(8, 75, 10)).toBeCloseTo((8 * 10 + 4 * 10 + 2 * 20 + 35) / (8 * 75), 12);
  expect(shareOfHalving(8, 75, 75)).toBe(1);
  expect(shareOfHalving(1, 75, 10)).toBe(1);
});
