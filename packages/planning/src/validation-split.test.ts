import { describe, expect, it } from 'vitest';
import type { BitSet } from './bit-set.js';
import { heldOutRows } from './validation-split.js';

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
