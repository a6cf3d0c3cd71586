import { describe, expect, test } from 'vitest';
import { checkDifference, mergedBound } from './rounding-bounds.js';

describe('the bound of a merged model', () => {
  test('is that of rounding, where nothing is merged', () => {
    expect(mergedBound(0.1, { errorSquares: 0, updateSquares: 0, baseSquares: 4 }, 3)).toBe(0.1);
  });

  test('grows by the share of the update that rounding takes, at most by all of it', () => {
    const small = { errorSquares: 1, updateSquares: 16, baseSquares: Number.POSITIVE_INFINITY };
    expect(mergedBound(0.1, small, 2)).toBeCloseTo(0.1 + 0.25 * 2, 12);
    expect(mergedBound(0.1, { ...small, errorSquares: 99 }, 2)).toBeCloseTo(2.1, 12);
  });

  test('grows with an adapter that is large beside its base, up to half of what the adapter does', () => {
    const large = { errorSquares: 0, updateSquares: 4, baseSquares: 4 };
    expect(mergedBound(0.1, large, 2)).toBeCloseTo(0.1 + 0.3, 12);
    expect(mergedBound(0.1, { ...large, updateSquares: 4e4 }, 2)).toBeCloseTo(1.1, 12);
  });
});

test('a difference above its bound fails, and so does one that is no number', () => {
  checkDifference('read from its files', 0, 0);
  checkDifference('merged into its base', 0.2, 0.2);
  expect(() => checkDifference('read from its files', 1e-9, 0)).toThrow(
    expect.objectContaining({
      code: 'adapter_check_failed',
      message:
        'The log-probabilities of the adapter read from its files differ by 1.00e-9 from those of the trained one; at most 0.00 comes from rounding. The adapter was not published.',
    }),
  );
  expect(() => checkDifference('merged into its base', Number.NaN, 1)).toThrow(/differ by NaN/);
});
