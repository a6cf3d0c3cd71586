import { describe, expect, test } from 'vitest';
import { computedPermutation, MAX_LISTED, SeededRandom, seededPermutation } from './seeded-random.js';

describe('a computed order', () => {
  const orderOf = (count: number, seed = 1) => {
    const permutation = computedPermutation(new SeededRandom(seed, 'test'), count);
    return Int32Array.from({ length: count }, (_, place) => permutation.at(place));
  };

  test.each([1, 2, 3, 4, 5, 16, 17, 1000, 65_536, 100_003])(
    'a computed order of %i contains every number once',
    (count) => {
      expect(orderOf(count).sort()).toEqual(Int32Array.from({ length: count }, (_, index) => index));
    },
  );

  test('is the same for the same seed, and differs for another', () => {
    expect(orderOf(1000)).toEqual(orderOf(1000));
    expect(orderOf(1000)).not.toEqual(orderOf(1000, 2));
  });

  test('moves numbers as far as a random order does, and separates neighbours', () => {
    const count = 100_000;
    const order = orderOf(count);
    let distance = 0;
    let neighbours = 0;
    for (let place = 0; place < count; place++) {
      distance += Math.abs(order[place]! - place) / count;
      if (place > 0 && Math.abs(order[place]! - order[place - 1]!) === 1) neighbours++;
    }
    // Expected: an average distance of a third of the length, and two pairs of neighbours in a hundred thousand.
    expect(distance / count).toBeCloseTo(1 / 3, 2);
    expect(neighbours).toBeLessThan(20);
  });

  test('reaches every part of a hundred million rows', () => {
    const count = 1e8;
    const permutation = computedPermutation(new SeededRandom(3, 'test'), count);
    const tenths = new Array<number>(10).fill(0);
    const seen = new Set<number>();
    for (let place = 0; place < 20_000; place++) {
      const number = permutation.at(place);
      seen.add(number);
      tenths[Math.floor((10 * number) / count)]!++;
    }
    expect(seen.size).toBe(20_000);
    for (const tenth of tenths) expect(Math.abs(tenth - 2000)).toBeLessThan(250);
  });
});

test('up to four million rows, the order is the same in every release', () => {
  const listed = new SeededRandom(42, 'order of epoch 0').permutation(50);
  const permutation = seededPermutation(42, 'order of epoch 0', 50);
  expect(Array.from({ length: 50 }, (_, place) => permutation.at(place))).toEqual([...listed]);
  const large = seededPermutation(42, 'order of epoch 0', MAX_LISTED + 1);
  const computed = computedPermutation(new SeededRandom(42, 'order of epoch 0'), MAX_LISTED + 1);
  expect([0, 1, MAX_LISTED].map((place) => large.at(place))).toEqual(
    [0, 1, MAX_LISTED].map((place) => computed.at(place)),
  );
});
