import { describe, expect, test } from 'vitest';
import { advantagesOf, type TokenScores, tokenLoss } from './group-loss.js';

const SETTINGS = { clip_low: 0.2, clip_high: 0.3, kl_weight: 0.4 };

const derivative = (scores: TokenScores, settings = SETTINGS): number => {
  const step = 1e-5;
  const at = (logProbability: number) => tokenLoss({ ...scores, logProbability }, settings).loss;
  return (at(scores.logProbability + step) - at(scores.logProbability - step)) / (2 * step);
};

describe.each([1.7, -0.6, 0])('a token of an answer with the advantage %s', (advantage) => {
  // Ratios within the bounds, below, above, and far from both.
  test.each([-0.1, 0.1, -0.5, 0.5, -6, 3])(
    'has the derivative that finite differences have, of the log-ratio %s',
    (log) => {
      for (const reference of [null, -1.1, -4]) {
        const scores = { logProbability: -1.5, sampled: -1.5 - log, reference, advantage };
        expect(tokenLoss(scores, SETTINGS).slope).toBeCloseTo(derivative(scores), 6);
      }
    },
  );
});

test('a token that only this step trains on has the ratio 1, and the derivative of the ratio', () => {
  const scores = { logProbability: -0.7, sampled: null, reference: null, advantage: 1.3 };
  expect(tokenLoss(scores, SETTINGS)).toEqual({ loss: -1.3, slope: -1.3, isClipped: false, divergence: 0 });
});

test('a ratio is clipped only on the side where the advantage pushes it', () => {
  const isClipped = (log: number, advantage: number) =>
    tokenLoss({ logProbability: log, sampled: 0, reference: null, advantage }, SETTINGS).isClipped;
  expect([isClipped(0.3, 1), isClipped(0.3, -1), isClipped(-0.3, 1), isClipped(-0.3, -1)]).toEqual([
    true,
    false,
    false,
    true,
  ]);
  expect([isClipped(0.25, 1), isClipped(-0.2, -1), isClipped(0.3, 0)]).toEqual([false, false, false]);
});

test('without clip_high, both sides have the same bound', () => {
  const scores = { logProbability: 0.25, sampled: 0, reference: null, advantage: 1 };
  expect(tokenLoss(scores, { ...SETTINGS, clip_high: null })).toMatchObject({ loss: -1.2, isClipped: true });
});

test('the divergence is 0 where both are equally sure, and positive elsewhere', () => {
  const divergence = (reference: number) =>
    tokenLoss({ logProbability: -1, sampled: null, reference, advantage: 0 }, SETTINGS).divergence;
  expect(divergence(-1)).toBe(0);
  expect(divergence(-0.5)).toBeCloseTo(Math.exp(0.5) - 0.5 - 1, 12);
  expect(divergence(-3)).toBeCloseTo(Math.exp(-2) + 2 - 1, 12);
});

describe('advantages', () => {
  const rewards = Float64Array.of(1, 2, 3, 6, 5, 5, 5, 5);
  const of = (scale: 'group' | 'batch' | 'none') => advantagesOf(rewards, { group_size: 4, scale_rewards: scale });

  test('are rewards less the mean of their group, divided by its standard deviation', () => {
    const { values, isFlat } = of('group');
    const deviation = Math.sqrt((4 + 1 + 0 + 9) / 3) + 1e-4;
    expect([...values]).toEqual([-2, -1, 0, 3, 0, 0, 0, 0].map((number) => number / deviation));
    expect(isFlat).toEqual([false, true]);
  });

  test('are divided by the standard deviation of all, or not', () => {
    const all = [1, 2, 3, 6, 5, 5, 5, 5];
    const mean = 4;
    const deviation = Math.sqrt(all.reduce((sum, one) => sum + (one - mean) ** 2, 0) / 7) + 1e-4;
    expect(of('batch').values[3]).toBeCloseTo(3 / deviation, 12);
    expect([...of('none').values]).toEqual([-2, -1, 0, 3, 0, 0, 0, 0]);
  });

  test('of rewards that differ by rounding alone are near 0', () => {
    const { values, isFlat } = advantagesOf(Float64Array.of(0.1 + 0.2, 0.3), { group_size: 2, scale_rewards: 'group' });
    expect(Math.max(...values.map(Math.abs))).toBeLessThan(1e-12);
    expect(isFlat).toEqual([true]);
  });
});
