import { SeededRandom } from '@lorasmith/seeded-random';
import { describe, expect, it, test } from 'vitest';
import { BitSet, heldOutRows } from './validation-split.js';

const held = (rows: BitSet) => rows.size;
const listOf = (rows: BitSet) => Array.from({ length: rows.length }, (_, row) => row).filter((row) => rows.has(row));

describe('heldOutRows', () => {
  it('holds out the share, rounded up, drawn by the seed', () => {
    expect(held(heldOutRows(1000, 0.1, 42))).toBe(100);
    expect(held(heldOutRows(11, 0.1, 42))).toBe(2);
    expect(held(heldOutRows(2, 0.001, 42))).toBe(1);
    expect(held(heldOutRows(5, 0, 42))).toBe(0);
    expect(listOf(heldOutRows(1000, 0.1, 42))).toEqual(listOf(heldOutRows(1000, 0.1, 42)));
    expect(listOf(heldOutRows(1000, 0.1, 42))).not.toEqual(listOf(heldOutRows(1000, 0.1, 43)));
  });

  it('holds out the same rows in every release', () => {
    expect(listOf(heldOutRows(20, 0.25, 42))).toEqual([1, 11, 14, 16, 17]);
  });

  it('refuses to leave nothing to train on', () => {
    for (const [rows, split] of [
      [1, 0.1],
      [3, 0.9],
    ] as const) {
      expect(() => heldOutRows(rows, split, 1)).toThrow(expect.objectContaining({ code: 'validation_split_empty' }));
    }
  });
});

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
