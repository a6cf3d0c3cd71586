import { describe, expect, test } from 'vitest';
import { greatestDifference } from '../../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../../test/numeric/normal-numbers.js';
import { gradientBySigmoid, routeBySigmoid } from './routing.js';

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
const ONE_GROUP = { groups: 1, groupsPerToken: 1, scale: 1 };
const NO_CORRECTION = new Float32Array(6);

describe('experts of tokens', () => {
  const settings = { count: 6, perToken: 2, renormalized: true, sigmoid: ONE_GROUP };

  test('are those of the largest sums of score and correction, whose weights have no correction', () => {
    const logits = Float32Array.of(0, 1, 2, -1, -2, 3);
    const correction = Float32Array.of(0, 0, 0, 2, 0, 0);
    const { experts, weights, offsets } = routeBySigmoid(logits, correction, settings);
    expect(experts).toEqual(Int32Array.of(3, 5));
    expect(offsets).toEqual(Int32Array.of(0, 0, 0, 0, 1, 1, 2));
    const sum = sigmoid(-1) + sigmoid(3);
    expect(greatestDifference(weights, [sigmoid(-1) / sum, sigmoid(3) / sum])).toBeLessThan(1e-7);
  });

  test('of equal sums are the first', () => {
    const { experts } = routeBySigmoid(Float32Array.of(1, 2, 2, 2, 0, 0), NO_CORRECTION, settings);
    expect(experts).toEqual(Int32Array.of(1, 2));
  });

  test('are in the groups whose two largest sums are most', () => {
    // The largest score is in the first group, whose other one is small.
    const logits = Float32Array.of(4, -9, 1, 1, 2, -1);
    const of = (groupsPerToken: number) =>
      routeBySigmoid(logits, NO_CORRECTION, { ...settings, sigmoid: { groups: 3, groupsPerToken, scale: 1 } }).experts;
    expect(of(1)).toEqual(Int32Array.of(2, 3));
    expect(of(2)).toEqual(Int32Array.of(4, 2));
    expect(of(3)).toEqual(Int32Array.of(0, 4));
  });

  test('whose logits are not numbers have weights that are none, and no other token has', () => {
    const logits = Float32Array.of(...[0, 1, 2, 3, 4, 5], ...[0, Number.NaN, 2, 3, 4, 5], ...[5, 4, 3, 2, 1, 0]);
    const { weights, places, offsets } = routeBySigmoid(logits, NO_CORRECTION, settings);
    const byChoice = Array.from(places, (row) => Number.isNaN(weights[row]!));
    expect(byChoice).toEqual([false, false, true, true, false, false]);
    expect(offsets.at(-1)).toBe(6);
  });
});

describe.each([true, false])('weights, renormalized: %s', (renormalized) => {
  const settings = {
    ...{ count: 6, perToken: 3, renormalized },
    sigmoid: { groups: 3, groupsPerToken: 2, scale: 1.5 },
  };
  const [logits, correction] = [normalNumbers(4 * 6, 1), normalNumbers(6, 2)];
  const byWeights = normalNumbers(4 * 3, 3);

  test('are the scores, over their sum, times the factor', () => {
    const { experts, places, weights } = routeBySigmoid(logits, correction, settings);
    const expected = Array.from(experts, (expert, choice) => {
      const token = Math.floor(choice / 3);
      const own = [...experts.subarray(3 * token, 3 * token + 3)].map((one) => sigmoid(logits[6 * token + one]!));
      const sum = renormalized ? own.reduce((all, score) => all + score, 0) : 1;
      return (1.5 * sigmoid(logits[6 * token + expert]!)) / sum;
    });
    const found = Array.from(places, (row) => weights[row]!);
    expect(greatestDifference(found, expected)).toBeLessThan(1e-6);
  });

  test('the gradient by the logits is that of finite differences', () => {
    const routing = routeBySigmoid(logits, correction, settings);
    const step = 2 ** -8;
    const along = (index: number, change: number) => {
      const changed = logits.slice();
      changed[index]! += change;
      const { experts, weights } = routeBySigmoid(changed, correction, settings);
      // Which experts are chosen has no gradient: no logit here is so near another that the step changes the choice.
      expect(experts).toEqual(routing.experts);
      return weights.reduce((sum, weight, row) => sum + weight * byWeights[row]!, 0);
    };
    const differences = Array.from(logits, (_, i) => (along(i, step) - along(i, -step)) / (2 * step));
    expect(greatestDifference(gradientBySigmoid(byWeights, routing, settings), differences)).toBeLessThan(1e-4);
  });
});
