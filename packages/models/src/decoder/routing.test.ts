import { describe, expect, test } from 'vitest';
import { greatestDifference } from '../../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../../test/numeric/normal-numbers.js';
import { gradientByLogits, routeTokens } from './routing.js';

const TWO = { count: 4, perToken: 2 };

describe('experts of tokens', () => {
  test('are those of the largest logits, sorted by expert and then by token', () => {
    const logits = Float32Array.of(...[0, 3, 1, 2], ...[5, 4, 0, 0], ...[1, 0, 9, 8]);
    expect(routeTokens(logits, { ...TWO, renormalized: true })).toMatchObject({
      experts: Int32Array.of(1, 3, 0, 1, 2, 3),
      offsets: Int32Array.of(0, 1, 3, 4, 6),
      // Expert 0: token 1. Expert 1: tokens 0 and 1. Expert 2: token 2. Expert 3: tokens 0 and 2.
      tokens: Int32Array.of(1, 0, 1, 2, 0, 2),
      places: Int32Array.of(1, 4, 0, 2, 3, 5),
    });
  });

  test('of equal logits are the first', () => {
    const { experts } = routeTokens(Float32Array.of(1, 2, 2, 2, 0, 0, 0, 0), { ...TWO, renormalized: false });
    expect(experts).toEqual(Int32Array.of(1, 2, 0, 1));
  });

  test('all experts of a token may be chosen', () => {
    const settings = { count: 3, perToken: 3, renormalized: false };
    const { experts, offsets } = routeTokens(Float32Array.of(1, 3, 2), settings);
    expect(experts).toEqual(Int32Array.of(1, 2, 0));
    expect(offsets).toEqual(Int32Array.of(0, 1, 2, 3));
  });

  test('have none without tokens', () => {
    const { offsets, tokens } = routeTokens(new Float32Array(0), { ...TWO, renormalized: true });
    expect(offsets).toEqual(new Int32Array(5));
    expect(tokens).toHaveLength(0);
  });
});

describe.each([true, false])('weights, renormalized: %s', (renormalized) => {
  const settings = { count: 5, perToken: 2, renormalized };
  const logits = normalNumbers(3 * settings.count, 1);
  /** The weights of a token's experts, in float64. */
  const weightsOf = (all: ArrayLike<number>, token: number, experts: readonly number[]) => {
    const exponentials = Array.from({ length: settings.count }, (_, i) => Math.exp(all[token * settings.count + i]!));
    const among = renormalized ? experts.map((expert) => exponentials[expert]!) : exponentials;
    const sum = among.reduce((total, value) => total + value, 0);
    return experts.map((expert) => exponentials[expert]! / sum);
  };
  const routing = routeTokens(logits, settings);
  const expertsOf = (token: number) => [...routing.experts.subarray(2 * token, 2 * token + 2)];
  const byChoice = [0, 1, 2].flatMap((token) => weightsOf(logits, token, expertsOf(token)));

  test('are the softmax of all logits, or of those that are chosen', () => {
    const found = Array.from(routing.places, (row) => routing.weights[row]!);
    expect(greatestDifference(found, byChoice)).toBeLessThan(1e-7);
  });

  test('are those of a logit beyond the exponential', () => {
    const { weights } = routeTokens(Float32Array.of(2000, 1999, 0, -2000, 1), settings);
    expect(weights[0]).toBeCloseTo(1 / (1 + Math.exp(-1)), 6);
  });

  test('have the gradient of finite differences', () => {
    const byWeights = normalNumbers(routing.weights.length, 2);
    const lossOf = (all: readonly number[]) =>
      [0, 1, 2]
        .flatMap((token) => weightsOf(all, token, expertsOf(token)))
        .reduce((sum, weight, choice) => sum + weight * byWeights[routing.places[choice]!]!, 0);
    const numeric = Array.from(logits, (_, index) => {
      const moved = (by: number) => Array.from(logits, (logit, i) => (i === index ? logit + by : logit));
      return (lossOf(moved(1e-4)) - lossOf(moved(-1e-4))) / 2e-4;
    });
    expect(greatestDifference(gradientByLogits(byWeights, routing, settings), numeric)).toBeLessThan(1e-6);
  });

  test.each([
    ['a logit that is not a number', [1, Number.NaN, 0, 2, 3]],
    ['all logits without a number', [Number.NaN, Number.NaN, Number.NaN, Number.NaN, Number.NaN]],
    ['an infinite logit', [1, Number.POSITIVE_INFINITY, 0, 2, 3]],
    ['no finite logit', new Array(5).fill(Number.NEGATIVE_INFINITY)],
  ])('of a token with %s are no numbers, and those of the others stay', (_, broken) => {
    const beside = routeTokens(Float32Array.of(...logits.subarray(0, 5), ...broken, ...logits.subarray(5)), settings);
    const weightOf = (choice: number) => beside.weights[beside.places[choice]!]!;
    expect([2, 3].map(weightOf).every(Number.isNaN)).toBe(true);
    expect(new Set(beside.experts.subarray(2, 4)).size).toBe(2);
    const others = [0, 1, 4, 5, 6, 7].map(weightOf);
    expect(others).toEqual(Array.from(routing.places, (row) => routing.weights[row]!));
  });
});
