import { expect, test } from 'vitest';
import { initialA } from './initialise.js';

test('uniform in ±1/√in', () => {
  const inFeatures = 256;
  const bound = 1 / Math.sqrt(inFeatures);
  const a = initialA(64, inFeatures, 7, 'model.layers.0.self_attn.q_proj');
  expect(a).toHaveLength(64 * inFeatures);
  expect(a.every((value) => value >= -bound && value < bound)).toBe(true);
  const mean = a.reduce((sum, value) => sum + value, 0) / a.length;
  const meanSquare = a.reduce((sum, value) => sum + value * value, 0) / a.length;
  // Standard deviations of the two means: bound √(1/3/n) and bound² √(4/45/n); five of them.
  expect(Math.abs(mean)).toBeLessThan(5 * bound * Math.sqrt(1 / 3 / a.length));
  expect(Math.abs(meanSquare - bound ** 2 / 3)).toBeLessThan(5 * bound ** 2 * Math.sqrt(4 / 45 / a.length));
});

test('the same for the same seed and layer; another for another of either', () => {
  const first = initialA(4, 8, 42, 'a');
  expect(initialA(4, 8, 42, 'a')).toEqual(first);
  expect(initialA(4, 8, 43, 'a')).not.toEqual(first);
  expect(initialA(4, 8, 42, 'b')).not.toEqual(first);
});
