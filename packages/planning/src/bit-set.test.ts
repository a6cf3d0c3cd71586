import { SeededRandom } from '@lorasmith/seeded-random';
import { expect, test } from 'vitest';
import { BitSet } from './bit-set.js';

test.each([
  [1, 0.5],
  [31, 0.5],
  [32, 0.1],
  [513, 0.02],
  [20_000, 0.1],
  [20_000, 0.98],
  [5000, 0],
  [5000, 1],
])('a bit set of %i numbers with a share of %f knows its members and where the n-th is', (length, share) => {
  const random = new SeededRandom(7, `${length} ${share}`);
  const set = new BitSet(length);
  const [members, others]: [number[], number[]] = [[], []];
  for (let number = 0; number < length; number++) {
    if (random.next() < share) {
      set.add(number);
      members.push(number);
    } else others.push(number);
  }
  expect(set.size).toBe(members.length);
  expect(Array.from({ length }, (_, number) => number).filter((number) => set.has(number))).toEqual(members);
  expect(members.map((_, n) => set.nth(n, true))).toEqual(members);
  expect(others.map((_, n) => set.nth(n, false))).toEqual(others);
});

test('a number added twice counts once', () => {
  const set = new BitSet(40);
  for (const number of [3, 35, 3]) set.add(number);
  expect(set.size).toBe(2);
  expect([set.nth(0, true), set.nth(1, true)]).toEqual([3, 35]);
});
