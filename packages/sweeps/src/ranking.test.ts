import { describe, expect, test } from 'vitest';
import { metricOf, metricValue } from './metric.js';
import { rankingOf } from './ranking.js';

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
