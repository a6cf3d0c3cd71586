import { expect, test } from 'vitest';
import { SeededRandom } from './seeded-random.js';

const drawn = (random: SeededRandom, count: number) => Array.from({ length: count }, () => random.next());

test('the same seed and stream give the same numbers; another seed or stream gives different ones', () => {
  const first = drawn(new SeededRandom(42, 'order'), 10);
  expect(drawn(new SeededRandom(42, 'order'), 10)).toEqual(first);
  expect(drawn(new SeededRandom(43, 'order'), 10)).not.toEqual(first);
  expect(drawn(new SeededRandom(42, 'other'), 10)).not.toEqual(first);
});

// From an independent implementation of xoshiro128** in Python. Runs must stay reproducible in later releases.
test('the numbers are the same in every release', () => {
  const random = new SeededRandom(42, 'order of epoch 0');
  expect(drawn(random, 4).map((value) => value * 2 ** 32)).toEqual([2561590764, 2379941542, 1827177730, 2278550905]);
  expect([...new SeededRandom(7, 'order of epoch 1').permutation(8)]).toEqual([2, 1, 3, 6, 4, 5, 7, 0]);
});

test('an array is filled with the next numbers', () => {
  const [filling, drawing] = [new SeededRandom(1, 'fill'), new SeededRandom(1, 'fill')];
  for (const count of [1000, 1]) {
    const values = new Float32Array(count);
    filling.fillUniform(values, 0.3);
    expect(values).toEqual(Float32Array.from({ length: count }, () => (2 * drawing.next() - 1) * 0.3));
  }
});

test('numbers are uniform in [0, 1) and uncorrelated', () => {
  const count = 100_000;
  const values = drawn(new SeededRandom(1, 'uniform'), count);
  expect(values.every((value) => value >= 0 && value < 1)).toBe(true);
  const mean = values.reduce((sum, value) => sum + value, 0) / count;
  const meanSquare = values.reduce((sum, value) => sum + value * value, 0) / count;
  const correlation = values.reduce((sum, value, i) => sum + (value - 0.5) * ((values[i + 1] ?? 0.5) - 0.5), 0) / count;
  // Allows five standard deviations: √(1/12/n), √(4/45/n) and 1/12 √(1/n).
  expect(Math.abs(mean - 1 / 2)).toBeLessThan(5 * Math.sqrt(1 / 12 / count));
  expect(Math.abs(meanSquare - 1 / 3)).toBeLessThan(5 * Math.sqrt(4 / 45 / count));
  expect(Math.abs(correlation)).toBeLessThan((5 / 12) * Math.sqrt(1 / count));
});

test('streams with similar names are uncorrelated', () => {
  const firsts = Array.from({ length: 1000 }, (_, epoch) => new SeededRandom(0, `order of epoch ${epoch}`).next());
  expect(new Set(firsts).size).toBe(1000);
  const mean = firsts.reduce((sum, value) => sum + value, 0) / 1000;
  expect(Math.abs(mean - 0.5)).toBeLessThan(5 * Math.sqrt(1 / 12 / 1000));
});

test('a permutation contains every number once, and all orders are equally likely', () => {
  expect([...new SeededRandom(3, 'p').permutation(100)].sort((a, b) => a - b)).toEqual([...Array(100).keys()]);
  expect([...new SeededRandom(3, 'p').permutation(1)]).toEqual([0]);
  expect([...new SeededRandom(3, 'p').permutation(0)]).toEqual([]);
  const counts = new Map<string, number>();
  for (let seed = 0; seed < 6000; seed++) {
    const order = new SeededRandom(seed, 'p').permutation(3).join('');
    counts.set(order, (counts.get(order) ?? 0) + 1);
  }
  expect(counts.size).toBe(6);
  // Each is expected 1000 times, with a standard deviation of √(6000 · 1/6 · 5/6) = 29. Allows five of them.
  for (const count of counts.values()) expect(Math.abs(count - 1000)).toBeLessThan(145);
});
